"""What decides whether figures may stand side by side: the test images, and the settings that change a result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastfcn.report.runs import Run
from fastfcn.sweeps.jobs import flat

#: Settings that follow the choice of the upsampler, tell a place alone, or have a column of their own.
_NO_SETTING = (
    "model.backbone", "model.upsample", "model.head", "upsample", "output_stride", "backbone.output_stride",
    "head_kernel_size", "head.kernel_size", "paths", "logger", "callbacks", "trainer.default_root_dir",
    "data.dataset.cache_dir", "resume", "seed", "data.seed", "run_name",
)  # fmt: skip

#: Settings of the machine: seeds that differ in these are seeds of one row, and the difference is told.
_MACHINE = (
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.plugins",
    "trainer.log_every_n_steps", "trainer.benchmark", "trainer.deterministic", "deterministic", "compile",
    "channels_last", "keep_heap", "data.num_workers", "data.eval_batch_size", "data.on_bad_sample",
    "data.max_bad_samples", "test",
)  # fmt: skip

#: What the settings of an upsampler are called in the configuration; they tell rows of one upsampler apart.
_OF_THE_UPSAMPLER = ("upsample", "head_kernel_size", "head.kernel_size", "output_stride", "backbone.output_stride")


def tested_on(run: Run) -> dict[str, Any]:
    """What decides which images a run was tested on, and how they were cut; plain values by key."""
    data = run.config["data"]
    settings = {
        f"data.dataset.{key}": value
        for key, value in flat(data.get("dataset", {})).items()
        # where drawn images are cached, and the other splits, leave the test images as they are
        if key.split(".")[-1] not in ("cache_dir", "train", "val")
    }
    settings["data.split"] = data.get("split")
    settings["protocol"] = run.protocol
    if run.protocol == "center_crop":
        settings["data.crop_size"] = data.get("crop_size")
    settings["trainer.limit_test_batches"] = run.config.get("trainer", {}).get("limit_test_batches")
    return {key: placeless(value) for key, value in settings.items()}


def variants(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """Settings that change a result and in which runs of one head, upsampler and backbone differ: one value per run.

    A setting that an older run does not know is not taken as a difference.
    """
    left_out = tuple(key for key in (*_NO_SETTING, *_MACHINE) if key not in _OF_THE_UPSAMPLER)
    found = differences([_settings(run, left_out) for run in runs])
    known = [set(flat(run.config)) for run in runs]
    return {key: values for key, values in found.items() if all(key in keys for keys in known)}


def differing_settings(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """Settings apart from the upsampler in which the runs differ: key -> one value per run."""
    # Where the runs have different heads or backbones, the options of these follow from the choice.
    chosen = tuple(group for group in ("head", "backbone") if len({getattr(run, group) for run in runs}) > 1)
    return differences([_settings(run, (*_NO_SETTING, *chosen)) for run in runs])


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The keys under which not all hold the same, each with one value per mapping; None where it has no such key."""
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: tuple(each.get(key) for each in settings) for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def placeless(value: object) -> object:
    """A value by which runs of different machines compare: of a path, the last part."""
    return Path(value).name if isinstance(value, str) and "/" in value else value


def frozen(values: Iterable[object]) -> str:
    """Values of any nesting as one that can be a key."""
    return json.dumps(list(values), sort_keys=True, default=str)


def _settings(run: Run, left_out: Sequence[str]) -> dict[str, Any]:
    def counts(key: str) -> bool:
        return not any(key == other or key.startswith(f"{other}.") for other in left_out)

    return {key: placeless(value) for key, value in flat(run.config).items() if counts(key)}

"""Whether runs can be compared, with what each is compared, and what they differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastfcn.errors import UserError
from fastfcn.report.runs import Run

#: Settings that follow the choice of the upsampler, tell a place alone, or have a column of their own.
_NO_SETTING = (
    "model", "upsample", "output_stride", "backbone.output_stride", "head_kernel_size", "head.kernel_size",
    "paths", "logger", "callbacks", "trainer.default_root_dir", "data.dataset.cache_dir", "resume", "seed", "data.seed",
)  # fmt: skip


def references(runs: Sequence[Run]) -> list[int]:
    """The index of the run that each run is compared with.

    It has the same head and backbone and upsample=none, and the same seed where there is one; without a ``none`` it is
    the first run with this head and backbone.
    """

    def reference(run: Run) -> int:
        group = [i for i, other in enumerate(runs) if (other.head, other.backbone) == (run.head, run.backbone)]
        rivals = [i for i in group if runs[i].upsample == "none"] or group[:1]
        return next((i for i in rivals if runs[i].seed == run.seed), rivals[0])

    return [reference(run) for run in runs]


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse to compare runs that were tested on different images.

    Raises:
        UserError: names the first setting that differs.
    """
    first = runs[0]
    for run in runs[1:]:
        if differing := differences([_tested_on(first.config), _tested_on(run.config)]):
            key, (ours, theirs) = next(iter(differing.items()))
            raise UserError(
                f"{first.directory} and {run.directory} were tested on different images ({key} is {ours} and {theirs}):"
                " make a report of each with runs=[...]."
            )


def differing_settings(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """Settings apart from the upsampler in which the runs differ: key -> one value per run."""
    # Where the runs have different heads or backbones, the options of these follow from the choice.
    chosen = tuple(group for group in ("head", "backbone") if len({getattr(run, group) for run in runs}) > 1)
    left_out = (*_NO_SETTING, *chosen)

    def counts(key: str) -> bool:
        return not any(key == other or key.startswith(f"{other}.") for other in left_out)

    return differences([{key: value for key, value in flatten(run.config).items() if counts(key)} for run in runs])


def flatten(tree: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: ``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The keys under which not all hold the same, each with one value per mapping; None where it has no such key."""
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: tuple(each.get(key) for each in settings) for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def _tested_on(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides which images a run was tested on, and how they were cut."""
    data = config["data"]
    settings = {
        f"data.dataset.{key}": value
        for key, value in flatten(data["dataset"]).items()
        # where drawn images are cached, and the other splits, leave the test images as they are
        if key.split(".")[-1] not in ("cache_dir", "train", "val")
    }
    settings["data.whole_eval"] = data["whole_eval"]
    if not data["whole_eval"]:
        settings["data.crop_size"] = data["crop_size"]
    settings["trainer.limit_test_batches"] = config.get("trainer", {}).get("limit_test_batches")
    return settings

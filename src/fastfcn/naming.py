"""What a run is called: the same name in its directory, in a sweep's table and in W&B."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: What a sweep lays beside the directories of its jobs.
SWEEP_FILE = "sweep.json"

#: What a run leaves when it has come to its end.
RESULTS_FILE = "results.json"

#: The groups that a run is named by.
GROUPS = ("head", "upsample", "backbone", "data")


def run_name(
    choices: Mapping[str, str], *, output_stride: int, seed: int, timm_name: str | None = None, more: Sequence[str] = ()
) -> str:
    """Name a run by its parts: ``encoding-jpu-r50-os32-s0``.

    Args:
        choices: the options of the groups head, upsample and backbone.
        output_stride: of the backbone.
        seed: of the run.
        timm_name: of the model where the backbone is timm's.
        more: what else distinguishes it, ``key=value`` each.
    """
    backbone = str(timm_name) if choices["backbone"] == "timm" and timm_name else choices["backbone"]
    parts = [choices["head"], choices["upsample"], short(backbone), f"os{output_stride}", f"s{seed}", *more]
    return "-".join(re.sub(r"[^\w.=+-]+", "_", part).strip("_") for part in parts)


def short(backbone: str) -> str:
    """``resnet50`` -> ``r50``, ``resnet101s`` -> ``r101s``; any other name stays."""
    return re.sub(r"^resnet(\d+s?)$", r"r\1", backbone)


def name_of(config: Mapping[str, Any], choices: Mapping[str, str], *, more: Sequence[str] = ()) -> str:
    """The name in a configuration, or where it gives none the one by its parts.

    Args:
        config: of train.py; its interpolations are resolved on access.
        choices: option of each group.
        more: see run_name.
    """
    return config.get("run_name") or run_name(
        choices,
        output_stride=config["output_stride"],
        seed=config["seed"],
        timm_name=config["backbone"].get("name"),
        more=more,
    )


def group_name(name: str, *, data: str, run_dir: str | Path, sweep: str | None = None) -> str:
    """Name what a run belongs to, by which loggers list runs together.

    Args:
        name: The run's.
        data: The data's.
        run_dir: The run's directory.
        sweep: The sweep's name, where the run is of one that has a name.

    Returns:
        ``table1-scenes`` in a sweep; ``multirun-2026-01-31-12-00-00`` for the jobs of one without a name, which share a
        directory; the run's name without its seed, with the data, for a run by itself: the seeds of one model together.
    """
    if sweep is not None:
        return f"{sweep}-{data}"
    parent = Path(run_dir).resolve().parent
    if (parent / SWEEP_FILE).is_file():
        return f"multirun-{parent.parent.name}-{parent.name}"
    return f"{re.sub(r'-s-?[0-9]+(?=-|$)', '', name)}-{data}"

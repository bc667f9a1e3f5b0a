"""Run directories as train.py leaves them, with figures that were never measured, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastfcn.report.rows import Row
from fastfcn.report.runs import Run

GPU = "NVIDIA H100"
CPU = "AMD EPYC"


def config(**changes: Any) -> dict[str, Any]:
    """A resolved configuration of a run, as far as the report looks at it; ``data__crop_size=32`` changes a value."""
    content: dict[str, Any] = {
        "seed": 0,
        "model": {"width": 1},
        "backbone": {"depth": 18, "output_stride": 32},
        "head": {"kernel_size": 3},
        "optim": {"lr": 0.01},
        "data": {
            "dataset": {"_target_": "x", "seed": 0, "counts": {"train": 8, "test": 4}, "cache_dir": "a"},
            "split": "test",
            "batch_size": 4,
            "crop_size": 64,
            "whole_eval": False,
            "num_workers": 0,
        },
        "trainer": {"max_epochs": 8, "default_root_dir": "here"},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = content
        for parent in parents:
            node = node[parent]
        node[last] = value
    return content


def results(upsample: str, *, head: str, backbone: str, data: str, miou: float | None, **more: Any) -> dict[str, Any]:
    """Content of results.json; without a mIoU, of a run of speed alone."""
    test = {"pixAcc": 0.5, "mIoU": miou, "boundary_IoU": 0.1, "IoU": {"ground": miou, "wall": None}}
    return {
        "choices": {"head": head, "upsample": upsample, "backbone": backbone, "data": data},
        "epochs": 8,
        "steps": 16,
        "train_seconds": 1800.0,
        "best_checkpoint": None if miou is None else "elsewhere/checkpoints/best.ckpt",
        "test": None if miou is None else test,
        **more,
    }


def speed(fps: float, **more: Any) -> dict[str, Any]:
    """What a run measured of its speed; the times scatter by a tenth."""
    return {
        "median_ms": 1000 / fps, "p10_ms": 950 / fps, "p90_ms": 1050 / fps, "fps": fps, "repeats": 100, "warmup": 10,
        "image_size": [512, 512], "batch": 1, "precision": "float32", "device": GPU, "threads": 8,
        "peak_memory_gib": 1.5, **more,
    }  # fmt: skip


def provenance(*, gpu: bool = False, **more: Any) -> dict[str, Any]:
    """Content of provenance.json."""
    return {
        "started": "2026-01-01T10:00:00+00:00",
        "command": "python src/train.py",
        "git": {"commit": "a" * 40, "dirty": False},
        "hardware": {
            "cpu": CPU, "cores": 8, "threads": 8, "memory_gib": 64.0, "gpus": [{"name": GPU}] if gpu else [],
        },
        **more,
    }  # fmt: skip


def write_run(
    directory: Path,
    upsample: str,
    *,
    seed: int = 0,
    head: str = "encoding",
    backbone: str = "resnet18",
    data: str = "scenes",
    miou: float | None = 0.25,
    made: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    checkpoint: bool = False,
    overrides: Sequence[str] | None = None,
    **changes: Any,
) -> Path:
    """A finished run directory.

    Args:
        directory: where.
        upsample: option of conf/upsample.
        seed: of the run.
        head: option of conf/head.
        backbone: option of conf/backbone.
        data: option of conf/data.
        miou: of the test; None: a run of speed alone.
        made: further entries of results.json.
        status: status.json; none is written without.
        source: provenance.json.
        checkpoint: whether there is a file where the best checkpoint would be.
        overrides: of the command; by default those that tell the row.
        changes: of the configuration.
    """
    begin_run(
        directory, upsample, seed=seed, head=head, backbone=backbone, data=data, status=status, overrides=overrides
    )
    (directory / "checkpoints").mkdir()
    if checkpoint:
        (directory / "checkpoints" / "best.ckpt").touch()
    content = results(upsample, head=head, backbone=backbone, data=data, miou=miou, **(made or {}))
    (directory / "results.json").write_text(json.dumps(content))
    (directory / "config.yaml").write_text(json.dumps(config(seed=seed, **changes)))  # JSON is YAML
    (directory / "provenance.json").write_text(json.dumps(source or provenance()))
    return directory


def begin_run(
    directory: Path,
    upsample: str,
    *,
    seed: int = 0,
    head: str = "encoding",
    backbone: str = "resnet18",
    data: str = "scenes",
    status: dict[str, Any] | None = None,
    overrides: Sequence[str] | None = None,
) -> Path:
    """A run directory as far as it is there when the first step begins."""
    (directory / ".hydra").mkdir(parents=True)
    choices = {"head": head, "upsample": upsample, "backbone": backbone, "data": data}
    told = list(overrides or [f"{key}={value}" for key, value in choices.items()] + [f"seed={seed}"])
    written = {"hydra": {"hydra": {"runtime": {"choices": choices}}}, "config": config(seed=seed), "overrides": told}
    for name, content in written.items():
        (directory / ".hydra" / f"{name}.yaml").write_text(json.dumps(content))
    (directory / "overrides.yaml").write_text("".join(f"- {json.dumps(override)}\n" for override in told))
    if status is not None:
        (directory / "status.json").write_text(json.dumps(status))
    return directory


def run(
    upsample: str,
    *,
    seed: int = 0,
    head: str = "encoding",
    backbone: str = "resnet18",
    data: str = "scenes",
    miou: float | None = 0.25,
    made: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    """A run that lies nowhere."""
    place = Path(f"runs/{head}-{upsample}-{backbone}-{seed}")
    content = results(upsample, head=head, backbone=backbone, data=data, miou=miou, **(made or {}))
    return Run(
        place,
        head,
        upsample,
        backbone,
        seed,
        content,
        None,
        config(seed=seed, **changes),
        [],
        source or provenance(),
        {},
    )


def row(upsample: str, mious: Sequence[float], **keywords: Any) -> Row:
    """A row of one run per mIoU, seeds from 0 on."""
    runs = tuple(run(upsample, seed=seed, miou=miou, **keywords) for seed, miou in enumerate(mious))
    return Row(runs[0].head, upsample, runs[0].backbone, (), runs)

"""Report on a set of runs: ``python src/report.py runs=outputs/demo``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="report", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Rebuild each run's best model, measure them side by side, write ``report.md`` and ``figure6.png``."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn import evaluation, report, training
    from fastfcn.checkpoint import datamodule_from_checkpoint, model_from_checkpoint, read_checkpoint
    from fastfcn.config_types import check_types
    from fastfcn.errors import UserError

    check_types(config)
    training.quiet_lightning()
    if cfg.out is None and not isinstance(cfg.runs, str):
        raise UserError("runs is not one directory: say where the report goes, e.g. out=outputs/report.")
    runs, incomplete = report.read_runs(cfg.runs)
    checkpoints = [read_checkpoint(run.checkpoint) for run in runs]
    datamodule = (
        instantiate(cfg.data)
        if "_target_" in cfg.get("data", {})
        else datamodule_from_checkpoint(checkpoints[0], trusted=tuple(cfg.trusted))
    )
    evaluation.open_split(datamodule)
    for run, checkpoint in zip(runs, checkpoints, strict=True):
        evaluation.check_classes(checkpoint.facts, datamodule.facts, path=run.checkpoint)
    report.make(
        runs,
        [model_from_checkpoint(checkpoint, trusted=tuple(cfg.trusted)) for checkpoint in checkpoints],
        datamodule,
        out=cfg.runs if cfg.out is None else cfg.out,
        incomplete=incomplete,
        device=cfg.device,
        channels_last=cfg.channels_last,
        warmup=cfg.latency.warmup,
        repeats=cfg.latency.repeats,
        images=cfg.figure.images,
        candidates=cfg.figure.candidates,
    )


if __name__ == "__main__":
    cli.run(main)

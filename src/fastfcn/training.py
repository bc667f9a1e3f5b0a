"""One training from its parts: fit, test the best checkpoint, say and keep what came out."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import CSVLogger

from fastfcn import pictures, results, tracking
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.module import SegmentationModule


def quiet_lightning() -> None:
    """Leave out Lightning's notices on what is not there (GPU, TPU, its cloud); its warnings stay.

    Its loggers set their own level at import, so this comes after it.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning's own pytree helper asks torch in a way that torch 2.15 has deprecated.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def run(
    trainer: pl.Trainer,
    module: SegmentationModule,
    datamodule: SegmentationDataModule,
    *,
    run_dir: str | Path,
    config: dict[str, Any],
    choices: Mapping[str, str],
    resume: str | None = None,
    test: bool = True,
) -> float | None:
    """Train, test, report.

    Args:
        trainer: with callbacks and loggers.
        module: with loss and optimizer.
        datamodule: the data.
        run_dir: where results are kept.
        config: the resolved configuration, for the loggers.
        choices: the options that name the run: head, upsample, backbone, data.
        resume: a checkpoint to go on from.
        test: test at the end, on the best checkpoint where one was written.

    Returns:
        The best validation score, (pixAcc + mIoU) / 2; None where no checkpoint was written.

    Raises:
        UserError: the checkpoint to go on from does not exist.
    """
    if resume is not None and not Path(resume).is_file():
        raise UserError(f"resume={resume}: there is no such checkpoint; a run leaves its own in checkpoints/last.ckpt.")
    tracking.log_config(trainer.loggers, config)
    started = time.perf_counter()
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        if trainer.interrupted:  # Ctrl-C: Lightning has stopped in order; nothing is reported as if it were done
            raise KeyboardInterrupt
        train_seconds = time.perf_counter() - started
        best, score = _best_checkpoint(trainer)
        figures = None
        if test:
            trainer.test(module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)
            figures = results.gather(trainer.callback_metrics, module.facts)
        _report(trainer, module, Path(run_dir), dict(choices), figures, best, score, train_seconds)
    finally:
        tracking.finish(trainer.loggers)
    return score


def _best_checkpoint(trainer: pl.Trainer) -> tuple[str | None, float | None]:
    callback = trainer.checkpoint_callback
    path = getattr(callback, "best_model_path", "") or None
    score = getattr(callback, "best_model_score", None)
    return path, None if score is None else float(score)


@rank_zero_only
def _report(
    trainer: pl.Trainer,
    module: SegmentationModule,
    run_dir: Path,
    choices: dict[str, str],
    figures: dict[str, Any] | None,
    best: str | None,
    score: float | None,
    train_seconds: float,
) -> None:
    kept = {
        "choices": choices,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "train_seconds": round(train_seconds, 1),
        "best_checkpoint": best,
        "val_score": score,
        "test": figures,
    }
    path = results.save(run_dir, kept)
    if figures is not None:
        name = "-".join(choices[group] for group in ("head", "upsample", "backbone"))
        results.show(figures, title=f"test of {name} on {choices['data']}")
        rows = [[name, iou] for name, iou in figures["IoU"].items()]
        tracking.log_table(trainer.loggers, "test/IoU", ["class", "IoU"], rows, trainer.global_step)
    for logger in trainer.loggers:
        metrics_csv = Path(logger.log_dir or "") / "metrics.csv"
        if isinstance(logger, CSVLogger) and metrics_csv.is_file():
            pictures.curves(metrics_csv, run_dir / "curves.png")
            print(f"curves:          {run_dir / 'curves.png'}")
    print(f"results:         {path}")
    print(f"best checkpoint: {best or 'none was written'}")

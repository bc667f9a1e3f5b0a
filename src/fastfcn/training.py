"""One training from its parts: fit, test the best checkpoint, say and keep what came out."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

from fastfcn import curves, results, tracking
from fastfcn.checkpoint import Checkpoint, read_checkpoint
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.evaluation import check_classes, open_split
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
    init_from: str | None = None,
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
        init_from: a checkpoint whose weights the training begins with; nothing else of it counts.
        test: test at the end, on the best checkpoint where one was written.

    Returns:
        The best validation score, (pixAcc + mIoU) / 2; None where no checkpoint was written.

    Raises:
        UserError: the checkpoint to go on from or to begin with does not exist or is not of this model, or the
            processes do not fit the machine or the batch.
    """
    _check_processes(trainer, datamodule)
    # A split that is not there shows now, and not after the training.
    for split in (datamodule.train_split, "val"):
        datamodule.open(split)
    if test:
        open_split(datamodule)
    if resume is not None and init_from is not None:
        raise UserError("resume goes on with a training and init_from begins one: give one of the two.")
    if init_from is not None:
        module.model.load_state_dict(_checked("init_from", init_from, module).weights)
    if resume is not None:
        _check_epochs(resume, _checked("resume", resume, module), trainer)
        _tell_where_best_counts_from(resume, trainer)
    _forget_results(Path(run_dir))
    started = time.perf_counter()
    done = False
    try:
        tracking.log_config(trainer.loggers, config)
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        except SystemExit:
            if trainer.interrupted:  # Ctrl-C: Lightning has stopped in order, and exits with 1 as if it had failed
                raise KeyboardInterrupt from None
            raise
        train_seconds = time.perf_counter() - started
        best, score = _best_checkpoint(trainer)
        figures = None
        if test:
            trainer.test(module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)
            figures = results.gather(trainer.callback_metrics, module.facts)
        _report(trainer, module, Path(run_dir), dict(choices), figures, best, score, train_seconds, datamodule.skipped)
        done = True
    finally:
        tracking.finish(trainer.loggers, success=done)
    return score


def _check_processes(trainer: pl.Trainer, datamodule: SegmentationDataModule) -> None:
    """Refuse before any process starts what would fail in each of them."""
    count = trainer.world_size
    if count == 1:
        return
    devices, batch_size, cores = trainer.num_devices, datamodule.batch_size, os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and devices > cores:
        raise UserError(f"trainer.devices={devices}: this machine has {cores} cores, choose at most as many processes.")
    if getattr(trainer.strategy, "_layer_sync", None) is None:
        raise UserError(
            f"trainer.devices={devices} would leave each process a BatchNorm of its own: choose trainer=ddp, which "
            "synchronises it."
        )
    if batch_size % count:
        raise UserError(
            f"data.batch_size={batch_size} is the batch over all processes and does not divide among {count} of them: "
            f"choose a multiple of {count}."
        )


def _checked(key: str, path: str, module: SegmentationModule) -> Checkpoint:
    """Read a checkpoint, and refuse one of another model."""
    checkpoint = read_checkpoint(path)
    check_classes(checkpoint.facts, module.facts, path=path)
    own = {name: tuple(value.shape) for name, value in module.model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in checkpoint.weights.items()}
    if own != theirs:
        name = next(name for name in (*own, *theirs) if own.get(name) != theirs.get(name))
        raise UserError(
            f"{key}={path} is of another model, they differ in {name}: choose the backbone, upsample and head that it "
            "was trained with (config.yaml in its run directory)."
        )
    return checkpoint


def _check_epochs(path: str, checkpoint: Checkpoint, trainer: pl.Trainer) -> None:
    """Refuse to go on with a training that is over, or of which the weights alone are there."""
    if not checkpoint.resumable:
        raise UserError(f"resume={path} holds weights alone: begin a training with them by init_from={path}.")
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= checkpoint.epoch + 1:
        raise UserError(
            f"resume={path} has {checkpoint.epoch + 1} epochs behind it, as many as trainer.max_epochs="
            f"{trainer.max_epochs} asks for or more: raise trainer.max_epochs."
        )


def _best_checkpoint(trainer: pl.Trainer) -> tuple[str | None, float | None]:
    callback = trainer.checkpoint_callback
    path = getattr(callback, "best_model_path", "") or None
    score = getattr(callback, "best_model_score", None)
    return path, None if score is None else float(score)


@rank_zero_only
def _tell_where_best_counts_from(resume: str, trainer: pl.Trainer) -> None:
    """Say what Lightning does in silence: in another directory the best score so far is not known."""
    directory = getattr(trainer.checkpoint_callback, "dirpath", None)
    before = Path(resume).resolve().parent
    if directory is not None and Path(directory).resolve() != before:
        print(f"the best checkpoint is chosen among the epochs from here on; the one before is kept in {before}")


@rank_zero_only
def _forget_results(run_dir: Path) -> None:
    """A run that fails must not lie beside the figures of one before it in the same directory."""
    (run_dir / results.RESULTS_FILE).unlink(missing_ok=True)


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
    skipped: Mapping[str, Iterable[str]],
) -> None:
    kept = {
        "choices": choices,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "train_seconds": round(train_seconds, 1),
        "best_checkpoint": best,
        "val_score": score,
        "tested": None if figures is None else ("best checkpoint" if best else "last weights"),
        "test": figures,
    }
    path = results.save(run_dir, results.with_skipped(kept, skipped))
    if figures is not None:
        name = "-".join(choices[group] for group in ("head", "upsample", "backbone"))
        title = f"test of {name} on {choices['data']}" + (
            "" if best else ", last weights: no best checkpoint was written"
        )
        results.show(figures, title=title)
        rows = [[name, iou] for name, iou in figures["IoU"].items()]
        tracking.log_table(trainer.loggers, "test/IoU", ["class", "IoU"], rows, trainer.global_step)
        headlines = {f"test/{key}": value for key, value in figures.items() if isinstance(value, float)}
        best_score = {} if score is None else {"best/val_score": score}
        tracking.log_summary(trainer.loggers, {**headlines, **best_score})
    for logger in trainer.loggers:
        metrics_csv = Path(logger.log_dir or "") / "metrics.csv"
        if isinstance(logger, CSVLogger) and metrics_csv.is_file():
            curves.draw(metrics_csv, run_dir / "curves.png")
            print(f"curves:          {run_dir / 'curves.png'}")
    print(f"results:         {path}")
    print(f"best checkpoint: {best or 'none was written'}")

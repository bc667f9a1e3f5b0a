"""Loggers, and how pictures, tables and configurations reach whichever of them is attached.

Metrics go through Lightning's ``self.log``. What Lightning has no common interface for is here; a logger that cannot
show a thing is passed over, so that callers need not ask which loggers there are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from fastfcn.csv_logging import RunCSVLogger
from fastfcn.errors import UserError
from fastfcn.pictures import Example, Mask
from fastfcn.safe_wandb import SafeWandbLogger
from fastfcn.types import DataFacts, UInt8Array

#: What W&B's masks, of 8 bits, hold for a pixel of which nothing is known.
WANDB_IGNORED = 255


def csv_logger(*, save_dir: str) -> RunCSVLogger:
    """A logger that writes ``metrics.csv`` and ``hparams.yaml`` into a directory; see RunCSVLogger."""
    return RunCSVLogger(save_dir)


def tensorboard_logger(*, save_dir: str) -> TensorBoardLogger:
    """A logger that writes TensorBoard's event files into a directory.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401  (a test of its presence)
    except ModuleNotFoundError as error:
        raise UserError("logger=tensorboard needs TensorBoard: run `pip install -e .[tensorboard]`.") from error
    return TensorBoardLogger(save_dir, name="", version="", default_hp_metric=False)


@rank_zero_only
def log_metrics(loggers: Iterable[Logger], metrics: Mapping[str, float], step: int) -> None:
    """Logs numbers that do not come by Lightning's ``self.log``."""
    for logger in loggers:
        logger.log_metrics(dict(metrics), step)


@rank_zero_only
def log_predictions(
    loggers: Iterable[Logger], key: str, rows: Sequence[Example], *, facts: DataFacts, picture: UInt8Array, step: int
) -> None:
    """Shows images with their truths and predictions.

    W&B gets the images with both masks as its own overlays, which its users switch on and off by class and compare
    over the steps, at full size; the composed picture, whose masks are painted, would only take the panel from them.
    Where the classes do not fit its masks, and in other loggers, it is the picture.

    Args:
        loggers: Those of the trainer.
        key: What it is called.
        rows: Images, each with one prediction.
        facts: Names of the classes.
        picture: The same rows as one (H, W, 3) picture.
        step: Of the training.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            if facts.num_classes > WANDB_IGNORED:
                logger.log_image(key, [picture], step=step)
                continue
            labels = {**dict(enumerate(facts.class_names)), WANDB_IGNORED: "ignored"}
            masks = [
                {
                    name: {"mask_data": _wandb_mask(mask), "class_labels": labels}
                    for name, mask in (("prediction", row.predictions[0]), ("ground_truth", row.truth))
                }
                for row in rows
            ]
            captions = [row.name for row in rows]
            logger.log_image(key, [row.image for row in rows], step=step, masks=masks, caption=captions)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, picture, step, dataformats="HWC")


@rank_zero_only
def log_table(
    loggers: Iterable[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
) -> None:
    """Shows a table: a W&B table, TensorBoard text, or ``<key>.csv`` (with ``_`` for ``/``) beside ``metrics.csv``."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(key, columns=list(columns), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, TensorBoardLogger):
            lines = [columns, ["---"] * len(columns), *rows]
            logger.experiment.add_text(key, "\n".join("|".join(map(str, line)) for line in lines), step)
        elif isinstance(logger, CSVLogger):
            with Path(logger.log_dir, f"{key.replace('/', '_')}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([columns, *rows])


@rank_zero_only
def log_confusion(loggers: Iterable[Logger], key: str, matrix: Tensor, names: Sequence[str], step: int) -> None:
    """Shows a confusion matrix (C, C) of pixels, rows labels and columns predictions.

    W&B draws its own chart of it, the others get a table.
    """
    counts: list[list[int]] = matrix.tolist()
    cells = [
        (label, prediction, count)
        for label, row in zip(names, counts, strict=True)
        for prediction, count in zip(names, row, strict=True)
    ]
    rows = [[label, *row] for label, row in zip(names, counts, strict=True)]
    for logger in loggers:
        if isinstance(logger, SafeWandbLogger):
            logger.log_confusion(key, cells, step)
        else:
            log_table([logger], key, ["label", *names], rows, step)


@rank_zero_only
def log_config(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Records plain, possibly nested values (the resolved configuration, costs of the model) with the run."""
    for logger in loggers:
        logger.log_hyperparams(dict(config))


@rank_zero_only
def log_summary(loggers: Iterable[Logger], metrics: Mapping[str, float], step: int) -> None:
    """Sets the values by which runs are listed and compared: in W&B's table of runs, under HParams in TensorBoard.

    They are metrics like others, logged already at this step.
    """
    for logger in loggers:
        if isinstance(logger, SafeWandbLogger):
            logger.log_summary(metrics)
        elif isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(logger.hparams), dict(metrics), step)


def wants_checkpoint(loggers: Iterable[Logger]) -> bool:
    """Whether a logger keeps the best checkpoint."""
    return any(isinstance(logger, SafeWandbLogger) and logger.keeps_checkpoint for logger in loggers)


@rank_zero_only
def log_checkpoint(loggers: Iterable[Logger], path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Keeps a checkpoint with the run where that is asked for."""
    for logger in loggers:
        if isinstance(logger, SafeWandbLogger):
            logger.log_checkpoint(path, metadata)


@rank_zero_only
def finish(loggers: Iterable[Logger], *, success: bool = True) -> None:
    """Writes what is pending and ends the run; the next run of the same process then gets its own."""
    for logger in loggers:
        logger.finalize("success" if success else "failed")
        if isinstance(logger, SafeWandbLogger):
            logger.finish(success=success)


def _wandb_mask(mask: Mask) -> UInt8Array:
    return np.where(mask < 0, WANDB_IGNORED, mask).astype(np.uint8)

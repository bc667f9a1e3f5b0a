"""What must hold before a training begins, so that it fails in its first second and not in its last."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from fastfcn.callbacks import DrawPredictions
from fastfcn.checkpointing import LastCheckpoint
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.whole_files import check_folder


def check(trainer: pl.Trainer, datamodule: SegmentationDataModule, *, fit: bool) -> None:
    """Refuse a training that could not go on to its end.

    Args:
        trainer: with callbacks and loggers.
        datamodule: the data; its training split is opened.
        fit: whether there is a training, or a test alone.

    Raises:
        UserError: what is no callback or logger, a folder that cannot be written to, processes that do not fit the
            machine or the batch, an epoch without a batch.
    """
    _check_callbacks(trainer)
    _check_processes(trainer, datamodule)
    if fit:
        _check_batches(trainer, datamodule)


def _check_callbacks(trainer: pl.Trainer) -> None:
    """Refuse what is no callback or logger, and callbacks that would not find a place for their files."""
    for kind, entries in ((Callback, trainer.callbacks), (Logger, trainer.loggers)):  # type: ignore[attr-defined]
        for entry in entries:
            if not isinstance(entry, kind):
                group = f"{kind.__name__.lower()}s" if kind is Callback else "logger"
                raise UserError(
                    f"{group} holds {entry!r}, which is no {kind.__name__} of Lightning: give its _target_."
                )
    if not trainer.is_global_zero:
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None:
            check_folder(Path(callback.dirpath), key="callbacks.best.dirpath")
        elif isinstance(callback, LastCheckpoint):
            check_folder(callback.path.parent, key="callbacks.last.dirpath")
        elif isinstance(callback, DrawPredictions):
            check_folder(callback.directory, key="callbacks.draw_predictions.directory")


def _check_processes(trainer: pl.Trainer, datamodule: SegmentationDataModule) -> None:
    """Refuse before any process starts what would fail in each of them."""
    count = trainer.world_size
    if count == 1:
        return
    devices, batch_size = trainer.num_devices, datamodule.batch_size
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


def _check_batches(trainer: pl.Trainer, datamodule: SegmentationDataModule) -> None:
    """Refuse before it begins a training whose epoch has no batch, or fewer than a validation is to wait for."""
    images, wait = len(datamodule.open(datamodule.train_split)), trainer.val_check_interval
    batches = images // datamodule.batch_size
    if not batches:
        raise UserError(
            f"data.batch_size={datamodule.batch_size} is more than the {images} images of the {datamodule.train_split} "
            "split: lower it."
        )
    if trainer.check_val_every_n_epoch and isinstance(wait, int) and wait > batches:
        raise UserError(
            f"trainer.val_check_interval={wait} is more than the {batches} batches of an epoch: lower it, or set "
            "trainer.check_val_every_n_epoch=null to count over the epochs."
        )

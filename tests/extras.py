"""Callbacks with which the tests let a training fail: ``+callbacks.end={_target_: tests.extras.EndWith, ...}``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from typing_extensions import override


class EndWith(pl.Callback):
    """Ends one process of a training at one of its batches.

    Args:
        stamp: a file that is touched just before.
        how: an exception, SIGKILL, or at once when the callback is made, before the processes have met.
        rank: the process.
        batch: of the first epoch.
    """

    def __init__(
        self, *, stamp: str, how: Literal["error", "kill", "early"] = "error", rank: int = 0, batch: int = 0
    ) -> None:
        self.stamp = Path(stamp)
        self.how = how
        self.rank = rank
        self.batch = batch
        if how == "early" and int(os.environ.get("LOCAL_RANK", "0")) == rank:
            self.stamp.touch()
            raise RuntimeError("this process ends before it has met the others")

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_rank == self.rank and batch_idx == self.batch and self.how != "early":
            self.stamp.touch()
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("this process ends by a fault")


class Wait(pl.Callback):
    """Makes a training long enough to be disturbed: so many seconds after each epoch."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        time.sleep(self.seconds)

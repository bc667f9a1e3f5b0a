"""Progress for whoever watches: a bar in a terminal, plain lines in a file.

Rich draws its bar only on a terminal: written to a file, nothing would show before the end of the training. And a bar
that redraws itself by carriage returns fills a file with copies of itself.
"""

from __future__ import annotations

import math
import time
from collections import deque
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar
from rich.console import Console
from typing_extensions import override


def progress_bar(*, refresh_rate: int = 4, seconds: float = 10.0) -> ProgressBar:
    """The progress bar that suits the place where standard output goes.

    Args:
        refresh_rate: Redraws per second of the bar in a terminal.
        seconds: Least time between two lines elsewhere.
    """
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        return RichProgressBar(refresh_rate=refresh_rate, leave=True)
    return PlainProgress(seconds=seconds)


class PlainProgress(ProgressBar):
    """Prints a line every few seconds and one at the end of each epoch, with the metrics of the progress bar.

    The speed is that of the last batches, those of about three lines, and tells a change at once. The time left is that
    of the whole training at its mean pace so far, so that validation and all else is in it once it has happened.
    Neither counts the first batch, which waits for the loader and, where the model is compiled, for the compiler.

    Args:
        seconds: Least time between two lines.
    """

    def __init__(self, *, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._printed = 0.0
        self._ends: deque[float] = deque()  # when the last batches of this epoch ended
        self._start: tuple[float, int] | None = None  # time and step at the end of the first batch

    @override
    def disable(self) -> None:
        self._enabled = False

    @override
    def enable(self) -> None:
        self._enabled = True

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = None

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._printed = time.monotonic()
        self._ends.clear()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self._start = self._start or (now, trainer.global_step)
        self._ends.append(now)
        while len(self._ends) > 2 and now - self._ends[1] >= 3 * self.seconds:
            self._ends.popleft()
        done = batch_idx + 1
        if self._due() or done == self.total_train_batches:
            place = f"{_epoch(trainer)}  batch {done}/{self.total_train_batches}"
            self._say("  ".join([place, *self._speed(), *self._time_left(trainer)]), "train/")

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ends.clear()  # a validation amid an epoch is no part of a training batch

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._current_eval_dataloader_idx = dataloader_idx
        if not trainer.sanity_checking and self._due():
            self._say(f"validation  batch {batch_idx + 1}/{self.total_val_batches_current_dataloader}")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._say("  ".join([f"{_epoch(trainer)}  validated", *self._time_left(trainer)]), "val/")

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._current_eval_dataloader_idx = dataloader_idx
        if self._due() or batch_idx + 1 == self.total_test_batches_current_dataloader:
            self._say(f"test  batch {batch_idx + 1}/{self.total_test_batches_current_dataloader}")

    def _speed(self) -> list[str]:
        """Batches per second, nothing before there were two."""
        duration = self._ends[-1] - self._ends[0]
        return [f"{(len(self._ends) - 1) / duration:.2f} batches/s"] if duration > 0 else []

    def _time_left(self, trainer: pl.Trainer) -> list[str]:
        """Hours, minutes and seconds to the end of the training; nothing where its length or its pace is unknown."""
        left = trainer.estimated_stepping_batches - trainer.global_step
        if self._start is None or not 0 < left < math.inf:
            return []
        time_then, step_then = self._start
        done = trainer.global_step - step_then
        return [f"{timedelta(seconds=round((time.monotonic() - time_then) / done * left))} left"] if done > 0 else []

    def _due(self) -> bool:
        return time.monotonic() - self._printed >= self.seconds

    def _say(self, text: str, metrics: str | None = None) -> None:
        """Prints a line with the metrics of a prefix; reading them waits for the device, so only lines do."""
        self._printed = time.monotonic()
        if not self._enabled:
            return
        if metrics is not None:
            shown = self.trainer.progress_bar_metrics.items()
            # A mean over the epoch is known after it: what stands there during an epoch is that of the one before.
            values = [f"{k} {v:.4g}" for k, v in shown if k.startswith(metrics) and not k.endswith("_epoch")]
            text = "  ".join([text, *values])
        print(text, flush=True)


def _epoch(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs if trainer.max_epochs not in (None, -1) else "?"
    return f"epoch {trainer.current_epoch + 1}/{last}"

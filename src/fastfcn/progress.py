"""Progress for whoever watches: a bar in a terminal, plain lines in a file.

Rich draws its bar only on a terminal: written to a file, nothing would show before the end of the training. And a bar
that redraws itself by carriage returns fills a file with copies of itself.
"""

from __future__ import annotations

import time
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
    """Prints a line every few seconds and one at the end of each epoch, with the metrics of the progress bar."""

    def __init__(self, *, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._printed = 0.0
        self._started = 0.0

    @override
    def disable(self) -> None:
        self._enabled = False

    @override
    def enable(self) -> None:
        self._enabled = True

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._printed = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if self._due() or done == self.total_train_batches:
            speed = done / (time.monotonic() - self._started)
            self._say(f"{_epoch(trainer)}  batch {done}/{self.total_train_batches}  {speed:.2f} batches/s", "train/")

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
            self._say(f"{_epoch(trainer)}  validated", "val/")

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

"""The end of a training that has not become better for a while."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from typing_extensions import override

from fastfcn import monitored
from fastfcn.errors import UserError


class StopEarly(EarlyStopping):
    """Lightning's, by the figure that the best checkpoint is chosen by; so that a training that goes on knows it.

    A validation is counted when it has been made, before any checkpoint behind it is written, and the training ends
    behind the epoch in which the patience is exhausted. A training that has ended so is over when it is taken up again,
    where Lightning's own (2.6.6) lets it go on for an epoch. The patience is that of the run, whatever a checkpoint
    says.

    Args:
        patience: Validations without improvement; None: never.
        min_delta: What an improvement is at least.
        monitor: The figure.
        mode: ``max`` where more is better, ``min`` where less is.
    """

    def __init__(
        self, *, patience: int | None = None, min_delta: float = 0.0, monitor: str = "val/score", mode: str = "max"
    ) -> None:
        if mode not in self.mode_dict:
            raise UserError(f"callbacks.stop_early.mode={mode}: choose max or min.")
        super().__init__(
            monitor, min_delta=min_delta, patience=patience or 0, mode=mode, check_finite=False,
            check_on_train_epoch_end=False,
        )  # fmt: skip
        self.enabled = patience is not None
        #: Whether the training has ended by it.
        self.stopped = False

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "stopped": self.stopped}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.stopped = state_dict["stopped"]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stopped = self.stopped and self._is_exhausted
        if self.stopped:
            trainer.should_stop = True

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.enabled or trainer.fast_dev_run or self._should_skip_check(trainer):  # type: ignore[attr-defined]
            return
        figure = monitored.figure(trainer, self.monitor, key="callbacks.stop_early.monitor")
        self._evaluate_stopping_criteria(figure.detach().squeeze())

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_exhausted:
            return
        self.stopped, self.stopped_epoch = True, trainer.current_epoch
        trainer.should_stop = True
        if trainer.is_global_zero:
            better = "above" if self.mode == "max" else "below"
            print(
                f"stopped early: {self.monitor} has not come {better} {float(self.best_score):.4f} for "
                f"{self.wait_count} validations",
                flush=True,
            )

    @property
    def _is_exhausted(self) -> bool:
        return self.enabled and self.wait_count >= self.patience

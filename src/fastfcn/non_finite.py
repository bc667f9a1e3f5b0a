"""The stop at the first loss that is no number, without making the host wait for the device."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from fastfcn.agreement import Agreed
from fastfcn.errors import UserError
from fastfcn.types import Batch

_REMEDIES = (
    "lower optim.lr, clip gradients (trainer.gradient_clip_val=1.0) or train in full precision "
    "(trainer.precision=32-true), and look for damaged images or masks"
)


class StopOnNonFinite(Callback):
    """Ends the training at the first loss that is NaN or infinite, before it reaches the weights.

    Reading a value from a GPU each step would make the host wait for the whole step and leave the device idle while the
    next one is launched. So a flag ("this loss is not finite") is copied to pinned memory behind the forward pass, and
    read just before the optimizer's step. By then the backward pass is queued: the host waits for the forward pass
    alone, and the device has work meanwhile.

    Under DDP the flag's maximum over the processes is formed by an asynchronous all-reduce of one number, started
    before the backward pass and awaited on a stream of its own, so that all processes stop at the same step and none
    waits in a collective for one that has left.

    A finite loss can still make non-finite gradients, and with them weights; the next loss would show it, but the last
    step of an epoch is followed by a checkpoint. So weights and running statistics are checked when a checkpoint is
    about to be written as well.
    """

    def __init__(self) -> None:
        self._flag: Agreed | None = None
        self._loss: Tensor | None = None
        self._names: list[str] = []

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._names = list(batch["name"])

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self._judge(trainer)
        self._loss = loss.detach()
        self._flag = Agreed(~torch.isfinite(self._loss))

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._judge(trainer)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._judge(trainer)  # a batch whose gradients are accumulated has no optimizer step of its own

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        statistics = [
            value for name, value in pl_module.named_buffers() if name.endswith(("running_mean", "running_var"))
        ]
        checks = [torch.isfinite(value).all() for value in (*pl_module.parameters(), *statistics)]
        finite = bool(torch.stack(checks).all()) if checks else True
        if not trainer.strategy.reduce_boolean_decision(finite, all=True):
            raise UserError(
                f"The weights are no longer finite at epoch {trainer.current_epoch}, step {trainer.global_step}, and "
                f"no checkpoint of them was written: {_REMEDIES}."
            )

    def _judge(self, trainer: pl.Trainer) -> None:
        flag, self._flag = self._flag, None
        if flag is None or not flag.read():
            return
        assert self._loss is not None
        value = self._loss.item()
        where = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        if not torch.isfinite(self._loss):
            names = ", ".join(self._names[:8]) + (", ..." if len(self._names) > 8 else "")
            terms = _loss_terms(trainer)
            detail = f"is {value} at {where}" + (f" ({terms})" if terms else "") + f", images {names}"
        else:
            detail = f"of another process is not finite at {where}"
        raise UserError(f"The training loss {detail}: {_REMEDIES}.")


def _loss_terms(trainer: pl.Trainer) -> str:
    """The terms of the loss as this step logged them under ``train/``; empty where a step logs none."""
    terms: dict[str, Tensor] = {}
    for name, value in trainer.callback_metrics.items():
        # A metric logged per step and per epoch has both suffixes, and the value of the epoch is that of the last one.
        term = name.removesuffix("_step")
        if name.startswith("train/") and not name.endswith("_epoch") and (term != name or term not in terms):
            terms[term] = value
    return ", ".join(f"{term} {value.item():.4g}" for term, value in terms.items() if term != "train/loss")

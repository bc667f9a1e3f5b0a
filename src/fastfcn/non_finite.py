"""The stop at the first loss or gradient that is no number, without making the host wait for the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from fastfcn.agreement import Agreed
from fastfcn.errors import UserError
from fastfcn.incident_record import Seen, keep
from fastfcn.types import Batch

_REMEDIES = (
    "lower optim.lr, clip gradients (trainer.gradient_clip_val=1.0) or train in full precision "
    "(trainer.precision=32-true), and look for damaged images or masks"
)


@dataclass
class _Suspect:
    """What may not be finite, as it stood when it was looked at."""

    what: Literal["loss", "gradients"]
    flag: Agreed
    value: Tensor  # the loss or the norm of this process
    epoch: int
    step: int
    window: list[Seen] = field(default_factory=list)


class StopOnNonFinite(Callback):
    """Ends the training at the first loss or gradient norm that is NaN or infinite in a process, or passes over a step.

    Reading a value from a GPU each step would make the host wait for the whole step and leave the device idle while the
    next one is launched. So a flag ("this loss is not finite") is copied to pinned memory behind the forward pass, and
    read just before the optimizer's step. By then the backward pass is queued: the host waits for the forward pass
    alone, and the device has work meanwhile. The flag of the gradients' norm is read a step later on a GPU: what it
    has spoilt by then is never saved, and the training ends. With ``skip`` the host waits for it, since the step must
    not be made.

    Under DDP the flag's maximum over the processes is formed by an asynchronous all-reduce of one number, started
    before the backward pass and awaited on a stream of its own, so that all processes decide the same at the same step
    and none waits in a collective for one that has left.

    Weights and running statistics are checked besides whenever a checkpoint is about to be written.

    With ``trainer.precision=16-mixed`` gradients that overflow are the loss scaler's own business: it passes over the
    step and lowers its scale.

    Args:
        skip: steps of a training, over all its tries, that may be passed over: weights, momentum and running
            statistics stay as they were, the schedule goes on. Each is told and counted. The one after them stops it.
        directory: where each such batch is kept for a replay; None keeps nothing.
    """

    def __init__(self, *, skip: int = 0, directory: str | None = None) -> None:
        if skip < 0:
            raise UserError(f"callbacks.stop_on_non_finite.skip={skip}: choose a whole number from 0 on.")
        self.skip = skip
        self.directory = None if directory is None else Path(directory)
        self.skipped = 0
        self._window: list[Seen] = []  # the batches since the last optimizer step
        self._stepped = True
        self._loss: _Suspect | None = None
        self._late: _Suspect | None = None  # gradients of the step before
        self._hit = False
        self._statistics: list[Tensor] = []

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self._stepped:
            self._window, self._stepped, self._hit = [], False, False
            if self.skip:  # a forward pass of NaN would stay in the running statistics
                self._statistics = [value.detach().clone() for value in pl_module.buffers()]
        self._window.append(Seen(batch_idx, list(batch["name"])))

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self._judge_loss(trainer)
        self._window[-1].loss = loss.detach()
        self._loss = self._suspect("loss", loss.detach(), trainer)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._judge_late(trainer)
        self._judge_loss(trainer)
        self._stepped = True
        if not self._hit and getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = self._suspect("gradients", gradient_norm(optimizer), trainer)
            if self.skip or self._reads_at_once(gradients.value):
                self._judge(trainer, gradients)
            else:
                self._late = gradients
        if self._hit:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None  # the optimizer leaves it as it is, and its momentum
            for value, before in zip(pl_module.buffers(), self._statistics, strict=True):
                value.copy_(before)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._judge_loss(trainer)  # a batch whose gradients are accumulated has no optimizer step of its own

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._judge_late(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._judge_late(trainer)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._judge_late(trainer)
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

    def _reads_at_once(self, value: Tensor) -> bool:
        """Whether a value can be read now without waiting for a device."""
        return not value.is_cuda

    def _suspect(self, what: Literal["loss", "gradients"], value: Tensor, trainer: pl.Trainer) -> _Suspect:
        flag = Agreed(~torch.isfinite(value))
        return _Suspect(what, flag, value, trainer.current_epoch, trainer.global_step, list(self._window))

    def _judge_loss(self, trainer: pl.Trainer) -> None:
        loss, self._loss = self._loss, None
        if loss is not None:
            self._judge(trainer, loss)

    def _judge_late(self, trainer: pl.Trainer) -> None:
        late, self._late = self._late, None
        if late is not None:
            self._judge(trainer, late)

    def _judge(self, trainer: pl.Trainer, suspect: _Suspect) -> None:
        """Stop, or have the step passed over, where the processes agree that something is not finite."""
        if not suspect.flag.read():
            return
        terms = _loss_terms(trainer)
        suspect.window[-1].terms = terms
        kept = keep(
            trainer, self.directory, what=suspect.what, epoch=suspect.epoch, step=suspect.step, window=suspect.window
        )
        found = f"{_told(suspect, terms)}{kept.others}"
        if self._hit:
            return  # the step is passed over already
        if self.skipped < self.skip:
            self._hit = True
            self.skipped += 1
            if trainer.is_global_zero:
                print(f"{found}: passed over this step, {self.skipped} of at most {self.skip}{kept.where}", flush=True)
            return
        spent = f" {self.skip} steps were passed over before, as many as may be." if self.skip else ""
        raise UserError(f"{found}: {_REMEDIES}.{spent}{kept.replay}")


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The Euclidean norm of all gradients of an optimizer, on their device."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # as torch clips by
    return norm


def _told(suspect: _Suspect, terms: dict[str, float]) -> str:
    """What was found, from where this process stands."""
    where = f"epoch {suspect.epoch}, step {suspect.step}"
    last = suspect.window[-1].names
    names = ", ".join(last[:8]) + (", ..." if len(last) > 8 else "")
    if suspect.what == "gradients":
        return f"The gradients have a norm of {suspect.value.item()} at {where}, images {names}"
    if torch.isfinite(suspect.value):
        return f"The training loss of another process is not finite at {where}"
    listed = ", ".join(f"{term} {value:.4g}" for term, value in terms.items() if term != "train/loss")
    return (
        f"The training loss is {suspect.value.item()} at {where}"
        + (f" ({listed})" if listed else "")
        + (f", images {names}")
    )


def _loss_terms(trainer: pl.Trainer) -> dict[str, float]:
    """The terms of the loss as this step logged them under ``train/``; empty where a step logs none."""
    terms: dict[str, Tensor] = {}
    for name, value in trainer.callback_metrics.items():
        # A metric logged per step and per epoch has both suffixes, and the value of the epoch is that of the last one.
        term = name.removesuffix("_step")
        if name.startswith("train/") and not name.endswith("_epoch") and (term != name or term not in terms):
            terms[term] = value
    return {term: value.item() for term, value in terms.items()}

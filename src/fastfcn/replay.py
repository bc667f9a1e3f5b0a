"""A replay: the batch that had no finite loss or gradients is run again, and the first such number is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from fastfcn import incident
from fastfcn.agreement import gathered_objects, processes
from fastfcn.errors import UserError
from fastfcn.types import Batch


class ReproducedError(UserError):
    """The replay has found it again; the script ends with exit code 1, so that a bisection can go by it."""

    exit_code = 1


class NotReproduced(Exception):  # noqa: N818 - it is how a replay may end, no error
    """All was finite this time."""


class Replay(Callback):
    """Watches one optimizer step, that of an incident, and ends the training behind its backward pass.

    The training goes on from the last good checkpoint, exactly as it did then: the steps between are made again, and
    the batch comes with the same images, augmentations and dropout. In it every module's input and output, every term
    of the loss and every gradient are looked at as they are made.

    Args:
        file: what a training has left under ``non_finite/``.
    """

    def __init__(self, *, file: str) -> None:
        self.file = file
        self.incident = incident.read(file)
        self._first: str | None = None  # where this process has seen it
        self._hooks: list[RemovableHandle] = []
        self._number = 0  # of the batch, among those of the step

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batch_size = getattr(trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        for key, then, now in (
            ("seed", self.incident.seed, getattr(pl_module, "seed", None)),
            ("data.batch_size", self.incident.global_batch, batch_size),
        ):
            if now != then:
                raise UserError(f"{self.file} is of {key}={then}, now it is {now}: that batch would not come.")
        if trainer.global_step > self.incident.step:
            raise UserError(
                f"resume={trainer.ckpt_path} has {trainer.global_step} steps behind it, and {self.file} is of step "
                f"{self.incident.step}: give an earlier checkpoint by resume=..., or resume=null to begin anew."
            )
        steps = self.incident.step - trainer.global_step
        if trainer.is_global_zero:
            print(f"steps before the batch that are trained again: {steps}", flush=True)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if not self._is_there(trainer, batch_idx):
            if (trainer.current_epoch, trainer.global_step) > (self.incident.epoch, self.incident.step):
                raise UserError(f"{self.file} is of a batch that did not come: give the configuration of its run.")
            return
        self._number = self.incident.batches.index(batch_idx)
        if self._hooks:
            return  # of a batch before, which makes the same step
        for name, value in (*pl_module.named_parameters(), *pl_module.named_buffers()):
            self._look(value, f"in {name}, before the batch")
        self._look(batch["image"], "in the images of the batch")
        self._hooks = [*self._watch_modules(pl_module), *self._watch_gradients(pl_module)]

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if self._hooks:
            self._look(loss, "in the loss, though not in its terms")
            self._tell(trainer, loss)

    @override
    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._hooks:
            for name, value in pl_module.named_parameters():
                if value.grad is not None:  # of several processes their mean, which may overflow
                    self._look(value.grad, f"in the gradient of {name}, summed over batches and processes")
            self._tell(trainer)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._hooks:
            where = f"epoch {self.incident.epoch}, step {self.incident.step}"
            raise NotReproduced(f"{self.file}: not reproduced, loss and gradients of {where} are finite here")

    def _is_there(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        here = trainer.current_epoch, trainer.global_step
        return here == (self.incident.epoch, self.incident.step) and batch_idx in self.incident.batches

    def _watch_modules(self, module: nn.Module) -> Iterator[RemovableHandle]:
        for name, each in module.named_modules():
            if name and not name.startswith(("train_", "val_", "test_")):  # metrics
                kind = type(each).__name__
                yield each.register_forward_pre_hook(self._sees_input(f"in what {name} ({kind}) is given"))
                yield each.register_forward_hook(self._sees_output(f"in the output of {name} ({kind})"))

    def _sees_input(self, where: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, arguments: self._look(arguments, where)

    def _sees_output(self, where: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, arguments, output: self._look(output, where)

    def _watch_gradients(self, module: nn.Module) -> Iterator[RemovableHandle]:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                # It is called as the backward pass comes by, before processes share the gradient.
                yield parameter.register_hook(lambda grad, name=name: self._look(grad, f"in the gradient of {name}"))

    def _look(self, value: Any, where: str) -> None:
        """Keep where the first number that is not finite was seen."""
        if self._first is not None:
            return
        for path, tensor in _tensors(value):
            bad = ~torch.isfinite(tensor)
            if bad.any():
                count = f"{int(bad.sum())} of {tensor.numel()} numbers, the first is {tensor[bad][0].item()}"
                self._first = f"{where}{path}: {count}"
                return

    def _tell(self, trainer: pl.Trainer, loss: Tensor | None = None) -> None:
        """End the replay where any process has found something; say how near the loss is to that of the run."""
        found = gathered_objects((None if loss is None else repr(loss.item()), self._first))
        who = [f" of process {rank}" if trainer.world_size > 1 else "" for rank in range(len(found))]
        if trainer.is_global_zero:
            for rank, (now, _) in enumerate(found):
                if now is not None:
                    print(f"loss{who[rank]}: {now}{self._compared(rank, now)}", flush=True)
        for rank, (_, first) in enumerate(found):
            if first is not None:
                raise ReproducedError(f"reproduced, the first number{who[rank]} that is not finite is {first}.")

    def _compared(self, rank: int, now: str) -> str:
        """Whether the loss is that of the run; nothing where that had another number of processes."""
        if len(self.incident.ranks) <= rank or processes() != self.incident.processes:
            return ""
        then = self.incident.ranks[rank]["batches"][self._number]["loss"]
        return ", the same as then" if now == then else f", and {then} then"


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors in nested values, with where they are in it."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield path, value.detach()
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _tensors(each, f"{path}, {key}")
    elif isinstance(value, tuple | list):
        names = getattr(value, "_fields", [""] * len(value))
        for name, each in zip(names, value, strict=True):
            yield from _tensors(each, f"{path}, {name}" if name else path)

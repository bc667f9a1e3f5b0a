"""Callbacks with which the tests spoil a batch, or make memory scarce."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override


class Poison(pl.Callback):
    """Puts a NaN into one process of a training, at each of the steps that are given.

    Args:
        steps: optimizer steps that are done before.
        rank: the process; -1 is all.
        module: into whose output, ``model.head`` for one.
        parameter: or into whose gradient.
        value: that it is.
    """

    def __init__(
        self,
        *,
        steps: list[int],
        rank: int = -1,
        module: str | None = None,
        parameter: str | None = None,
        value: float = math.nan,
    ) -> None:
        self.steps, self.rank, self.module, self.parameter, self.value = list(steps), rank, module, parameter, value

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def spoil(value: Tensor) -> Tensor:
            due = trainer.global_step in self.steps and self.rank in (-1, trainer.global_rank) and trainer.training
            if not due:
                return value
            return torch.where(torch.arange(value.numel()).view(value.shape) == 0, self.value, value)

        if self.module is not None:
            pl_module.get_submodule(self.module).register_forward_hook(lambda module, given, out: _into(out, spoil))
        if self.parameter is not None:
            pl_module.get_parameter(self.parameter).register_hook(spoil)


def _into(output: Any, spoil: Any) -> Any:
    """Spoil a tensor, or the first of several."""
    if isinstance(output, Tensor):
        return spoil(output)
    return type(output)(spoil(output[0]), *output[1:])


class Small(pl.Callback):
    """A device on which a process can take so many images at once, as the allocator of a GPU would have it.

    Args:
        images: at most.
        rank: the process; -1 is all.
        steps: behind so many optimizer steps another number holds; -1: never.
        later: that number.
    """

    def __init__(self, *, images: int, rank: int = -1, steps: int = -1, later: int = 0) -> None:
        self.images, self.rank, self.steps, self.later = images, rank, steps, later

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def look(module: Any, given: tuple[Tensor, ...]) -> None:
            limit = self.later if 0 <= self.steps <= trainer.global_step else self.images
            here = self.rank in (-1, trainer.global_rank) and torch.is_grad_enabled()
            if here and len(given[0]) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        pl_module.get_submodule("model.backbone").register_forward_pre_hook(look)

"""Activation checkpointing: stages that keep no activations for the backward pass, and run again in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fastfcn.errors import UserError

#: What can be asked for, in the order in which it runs.
STAGES = ("c2", "c3", "c4", "c5", "upsample", "head")


def recompute(model: nn.Module, stages: bool | Sequence[str]) -> None:
    """Let stages of a model keep only what comes in: less memory, one more forward pass of each in training.

    Gradients and running statistics stay what they are, bit by bit: dropout draws the same again, and a BatchNorm does
    not count a batch twice.

    Args:
        model: with ``backbone`` (whose ``stage`` gives the module that makes a level), ``upsample`` and ``head``.
        stages: names out of `STAGES`; True is all of them, False none.

    Raises:
        UserError: no such stage, or one that this backbone has no module for.
    """
    names = STAGES if stages is True else () if stages is False else stages
    if not isinstance(names, list | tuple) or not set(names) <= set(STAGES):
        raise UserError(f"activation_checkpointing={stages}: give true, false or a list out of {', '.join(STAGES)}.")
    for name in names:
        module = model.backbone.stage(name) if name in STAGES[:4] else getattr(model, name)  # type: ignore[operator,union-attr]
        if module is None:
            raise UserError(
                f"activation_checkpointing={list(names)}: this backbone has no module of its own for {name}; choose "
                "out of upsample and head, or a ResNet."
            )
        # A bound method, which a deep copy of the module binds to the copy.
        module.forward = MethodType(_RECOMPUTED, module)


def _recomputed(self: nn.Module, *arguments: Any) -> Any:
    """The forward of a stage."""
    forward = partial(type(self).forward, self)
    if not (self.training and torch.is_grad_enabled()):
        return forward(*arguments)
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=partial(_contexts, self))


#: A compiled model calls it as it is: the compiler refuses contexts around what runs again.
_RECOMPUTED = torch.compiler.disable(_recomputed)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first run, and the second."""
    return nullcontext(), _uncounted(module)


@contextmanager
def _uncounted(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch as in training, and leave the running statistics as they are: a momentum of 0."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

"""Parts of a model that a training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

from torch import nn

from fastfcn.errors import UserError
from fastfcn.parts import OF_THE_BACKBONE, modules_of, parameters_of, written_out

#: Where a model keeps what is frozen of it.
_ATTRIBUTE = "_frozen_parts"

_KEY = "freeze"


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Let parts of a model stay as they are: no gradients, hence no steps and no weight decay; evaluation mode always.

    In evaluation mode a BatchNorm normalises by its running statistics and leaves them as they are, and nothing is
    dropped.

    Args:
        model: With ``backbone``, ``upsample``, ``head`` and, maybe, ``aux_head``.
        parts: Out of backbone, stem, c2 to c5, upsample, head and aux_head.

    Raises:
        UserError: No such part, one that this model does not have, or nothing is left to train.
    """
    if not parts:
        return
    names = written_out(parts, key=_KEY)
    found = modules_of(model, names, key=_KEY)
    if missing := [name for name in names if name not in OF_THE_BACKBONE and not found[name]]:
        raise UserError(f"freeze={list(parts)}: this model has no {missing[0]}, leave it out.")
    if "stem" in names and not set(names) >= set(OF_THE_BACKBONE):
        for parameter in parameters_of(model, key=_KEY)["stem"]:  # what stands outside of the modules too
            parameter.requires_grad_(False)
    for module in (module for modules in found.values() for module in modules):
        module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"freeze={list(parts)} leaves nothing to train: name fewer parts, or fit=false.")
    setattr(model, _ATTRIBUTE, tuple(names))
    # A bound method, which a deep copy of the model binds to the copy.
    model.train = MethodType(_train, model)  # type: ignore[method-assign]
    model.train(model.training)


def _train(self: nn.Module, mode: bool = True) -> Any:
    """What ``train()`` does of a model of which something is frozen."""
    type(self).train(self, mode)
    # Looked up each time: another BatchNorm may have come into a module's place.
    for modules in modules_of(self, getattr(self, _ATTRIBUTE), key=_KEY).values():
        for module in modules:
            module.eval()
    return self

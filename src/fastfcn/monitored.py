"""The figure of a validation that a callback watches."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import Tensor

from fastfcn.errors import UserError


def figure(trainer: pl.Trainer, name: str, *, key: str) -> Tensor:
    """What the last validation logged under a name, a scalar.

    Args:
        trainer: Behind a validation.
        name: Of the figure.
        key: That the user names it by.

    Raises:
        UserError: The validation logs no such figure.
    """
    if name not in trainer.callback_metrics:
        known = ", ".join(sorted(each for each in trainer.callback_metrics if each.startswith("val/")))
        raise UserError(f"{key}={name}: the validation logs no such figure, choose one of {known}.")
    return trainer.callback_metrics[name]

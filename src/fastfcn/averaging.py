"""An exponential moving average of the weights: what is validated, tested and kept as the model.

Lightning's `EMAWeightAveraging` (2.6.6) exchanges the weights for a validation too, but a checkpoint that is written
within one, as a signal asks for (`fastfcn.checkpointing`), then holds the average as the weights to go on from, and the
other way round. Hence this callback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from fastfcn.errors import UserError

#: Where a checkpoint keeps what the training itself goes on with; under ``state_dict`` lies the average.
AVERAGING_KEY = "fastfcn_averaging"

#: Of the module's entries: the model's, which alone are averaged.
_PREFIX = "model."


class AverageWeights(Callback):
    """Keeps an average of the model's weights and running statistics, and shows it to all who look at the model.

    Behind optimizer step number n, counted from 0, ``average = d average + (1 - d) weights`` with
    ``d = min(decay, (1 + n) / (10 + n))``: the first steps, from random weights, are soon forgotten. Validations, and
    the test where no best checkpoint is, see the average. A checkpoint has the average where the weights are
    otherwise, so that eval.py, predict.py, init_from and all others take it, and besides the weights that the training
    goes on with.

    Args:
        decay: The highest d, 0.999 or so; None: there is no average.
    """

    def __init__(self, *, decay: float | None = None) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise UserError(f"callbacks.average_weights.decay={decay}: choose a number from 0 to below 1, or null.")
        self.decay = decay
        self._steps = 0  # that are in the average
        self._seen = 0  # trainer.global_step at the last of them
        self._loaded: Mapping[str, Tensor] | None = None
        self._weights: dict[str, Tensor] = {}  # the model's own
        self._other: dict[str, Tensor] = {}  # the average; during a validation the weights of the training
        self._exchanged = False

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.decay is None or trainer.state.fn != TrainerFn.FITTING or AVERAGING_KEY not in checkpoint:
            return
        kept = checkpoint[AVERAGING_KEY]
        self._steps = kept["steps"]
        self._loaded = _of_model(checkpoint["state_dict"])
        with torch.no_grad():  # Lightning has filled it with the average
            for name, value in _model_entries(pl_module).items():
                value.copy_(kept["weights"][name])

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.decay is None:
            return
        self._weights = _model_entries(pl_module)
        self._other = {name: value.clone() for name, value in self._weights.items()}
        if self._loaded is not None:
            for name, value in self._other.items():
                value.copy_(self._loaded[name])
            self._loaded = None
        elif trainer.ckpt_path is not None and trainer.is_global_zero:
            print("the checkpoint has no average of the weights: it begins with them", flush=True)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen = trainer.global_step  # which Lightning restores behind on_fit_start

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.decay is None or trainer.global_step == self._seen:
            return
        weight = 1 - min(self.decay, (1 + self._steps) / (10 + self._steps))
        self._steps, self._seen = self._steps + 1, trainer.global_step
        with torch.no_grad():
            real = [name for name, value in self._weights.items() if value.is_floating_point()]
            torch._foreach_lerp_([self._other[name] for name in real], [self._weights[name] for name in real], weight)
            for name in self._weights.keys() - set(real):  # counts
                self._other[name].copy_(self._weights[name])

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._exchange()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._exchange()

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self._other or trainer.state.fn != TrainerFn.FITTING:
            return
        weights, average = self._weights, self._other
        if self._exchanged:
            weights, average = average, weights
        checkpoint["state_dict"].update({f"{_PREFIX}{name}": value for name, value in average.items()})
        checkpoint[AVERAGING_KEY] = {"decay": self.decay, "steps": self._steps, "weights": dict(weights)}

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with torch.no_grad():
            for name, value in self._weights.items():
                value.copy_(self._other[name])
        self._weights, self._other = {}, {}

    def _exchange(self) -> None:
        with torch.no_grad():
            for name, value in self._weights.items():
                before = value.clone()
                value.copy_(self._other[name])
                self._other[name].copy_(before)
        self._exchanged = bool(self._weights) and not self._exchanged


def check_goes_on(trainer: pl.Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on without the average where a training has one: the average is not what it was at.

    Raises:
        UserError: The checkpoint has an average, and the training keeps none.
    """
    callbacks = (each for each in trainer.callbacks if isinstance(each, AverageWeights))  # type: ignore[attr-defined]
    if AVERAGING_KEY in checkpoint and all(each.decay is None for each in callbacks):
        raise UserError(
            f"{trainer.ckpt_path} is of a training with an average of its weights: go on with "
            f"callbacks.average_weights.decay={checkpoint[AVERAGING_KEY]['decay']}, or begin a training of its own "
            "with the average by init_from=..."
        )


def _model_entries(module: pl.LightningModule) -> dict[str, Tensor]:
    """The entries of the model, themselves and no copies."""
    return _of_model(module.state_dict())


def _of_model(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_PREFIX): value for name, value in entries.items() if name.startswith(_PREFIX)}

"""A training that is broken off at any hook and goes on leaves what one leaves that was not, in many ways to train."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from fastfcn.averaging import AVERAGING_KEY, AverageWeights
from fastfcn.callbacks import LogLearningRate
from fastfcn.checkpointing import LastCheckpoint
from fastfcn.csv_logging import RunCSVLogger
from fastfcn.durable import DurableCheckpointIO
from fastfcn.early_stopping import StopEarly
from fastfcn.exact import ExactResume
from tests.data.test_datamodule import make, trainer

pytestmark = pytest.mark.slow


class BrokenOff(Exception):  # noqa: N818 - what a kill is to a process
    """Ends a training in the midst."""


class BreakOff(pl.Callback):
    """Breaks a training off at the n-th call of one of its hooks; None: never."""

    def __init__(self, at: tuple[str, int] | None) -> None:
        self.at = at
        for hook in ("on_train_batch_start", "on_train_batch_end", "on_validation_batch_end", "on_validation_end",
                     "on_train_epoch_end"):  # fmt: skip
            calls = itertools.count(1)
            setattr(self, hook, lambda *_, hook=hook, calls=calls, **__: self._break(hook, next(calls)))

    def _break(self, hook: str, call: int) -> None:
        if self.at == (hook, call):
            raise BrokenOff


class Regression(pl.LightningModule):
    """One weight that learns from what it is shown, with everything that is logged in a training."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.weight = nn.Parameter(torch.ones(()))
        self.model.register_buffer("running", torch.zeros(()))
        self.model.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.seen: list[tuple[int, int, str]] = []

    @property
    def weight(self) -> Tensor:
        return self.model.get_parameter("weight")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch_idx, ",".join(batch["name"])))
        self.model.get_buffer("running").lerp_(batch["image"].mean(), 0.1)
        self.model.get_buffer("count").add_(1)
        loss: Tensor = (self.weight * batch["image"].mean() - 0.1) ** 2 + 0.01 * self.weight**2
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=2)
        self.log("train/mean", loss / 3, on_step=False, on_epoch=True, batch_size=2)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        running = self.model.get_buffer("running")
        self.log("val/score", -((self.weight - 0.1 * batch_idx) ** 2) + 0.01 * running, batch_size=len(batch["name"]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(run_dir: Path, at: tuple[str, int] | None = None, *, resume: bool = False, **settings: Any) -> Regression:
    module = Regression()
    decay, patience = settings.pop("decay", None), settings.pop("patience", None)
    logger = RunCSVLogger(str(run_dir))
    callbacks = [
        ExactResume(),
        LogLearningRate(logging_interval="step"),
        AverageWeights(decay=decay),
        StopEarly(patience=patience, min_delta=10.0),
        BreakOff(at),
        ModelCheckpoint(dirpath=run_dir / "checkpoints", filename="best", monitor="val/score", mode="max",
                        enable_version_counter=False),
        LastCheckpoint(dirpath=str(run_dir / "checkpoints"), minutes=None, every_n_steps=1),
    ]  # fmt: skip
    run = trainer(
        **{"max_epochs": 3, "logger": logger, "callbacks": callbacks, "enable_checkpointing": True,
           "plugins": [DurableCheckpointIO()], "default_root_dir": run_dir, **settings}
    )  # fmt: skip
    _ = logger.experiment
    path = run_dir / "checkpoints/last.ckpt"
    data = make(batch_size=2)  # five batches to an epoch
    run.fit(module, datamodule=data, ckpt_path=path if resume and path.exists() else None, weights_only=True)
    return module


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit, nested or not."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return torch.equal(first, second) if isinstance(first, Tensor) else bool(first == second)


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulating": {"accumulate_grad_batches": 2},
    "validating twice an epoch": {"val_check_interval": 2},
    "validating every other epoch": {"check_val_every_n_epoch": 2, "max_epochs": 4},
    "without validation": {"limit_val_batches": 0},
    "in part": {"limit_train_batches": 3},
    "logging seldom": {"log_every_n_steps": 3},
    "with an average of the weights, stopping early": {"decay": 0.9, "patience": 2, "max_epochs": 5},
    "the same, accumulating, validating twice an epoch": {
        "decay": 0.9,
        "patience": 3,
        "max_epochs": 5,
        "accumulate_grad_batches": 2,
        "val_check_interval": 2,
    },
}

MOMENTS = [
    *(("on_train_batch_end", call) for call in (1, 4, 5, 6, 12)),
    *(("on_train_batch_start", call) for call in (2, 6)),
    *(("on_validation_batch_end", call) for call in (1, 2, 4)),
    *(("on_validation_end", call) for call in (1, 2)),
    *(("on_train_epoch_end", call) for call in (1, 3)),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_broken_off_at_every_moment_in_turn(way: str, tmp_path: Path) -> None:
    """In a chain: each try is broken off at its moment, counted from where it begins, and the next goes on."""
    settings = WAYS[way]
    whole = fit(tmp_path / "whole", **settings)
    expected = rows(tmp_path / "whole")
    final = torch.load(tmp_path / "whole/checkpoints/last.ckpt", weights_only=True)
    if "patience" in settings:
        assert max(epoch for epoch, _, _ in whole.seen) < settings["max_epochs"] - 1, "it has not stopped early"
    for number, moment in enumerate(MOMENTS):
        run_dir = tmp_path / f"run{number}"
        seen: list[tuple[int, int, str]] = []
        for at in (moment, ("on_train_batch_end", 2), ("on_validation_batch_end", 1), None):
            try:
                seen += fit(run_dir, at, resume=True, **settings).seen
            except BrokenOff:
                continue
        assert rows(run_dir) == expected, f"{moment}"
        content = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)
        assert same(content["state_dict"], final["state_dict"]), f"{moment}"
        assert same(content.get(AVERAGING_KEY), final.get(AVERAGING_KEY)), f"{moment}"
        assert content["loops"] == final["loops"], f"{moment}"
        assert content["lr_schedulers"] == final["lr_schedulers"]
        assert set(seen) <= set(whole.seen)
        assert seen == whole.seen[len(whole.seen) - len(seen) :]  # of the last try: nothing twice, nothing left out

"""An average of the weights, and a training that ends where it becomes no better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from fastfcn.averaging import AVERAGING_KEY, AverageWeights
from fastfcn.early_stopping import StopEarly
from fastfcn.errors import UserError
from fastfcn.exact import ExactResume
from tests.scripts import TINY, call
from tests.toy import Module, loader, trainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Follow(pl.Callback):
    """Averages as the equation has it, entry by entry in Python's numbers, and notes what is validated."""

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.average: dict[str, Tensor] = {}
        self.validated: list[bool] = []
        self.behind: list[bool] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.average = {name: value.clone().double() for name, value in pl_module.model.state_dict().items()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        d = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in pl_module.model.state_dict().items():
            if value.is_floating_point():
                self.average[name] = d * self.average[name] + (1 - d) * value.double()
            else:
                self.average[name] = value.double().clone()

    def is_shown(self, pl_module: Any) -> bool:
        entries = pl_module.model.state_dict()
        return all(torch.allclose(value.double(), self.average[name], atol=1e-6) for name, value in entries.items())

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.validated.append(self.is_shown(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.behind.append(self.is_shown(pl_module))


def fit(place: Path, *callbacks: pl.Callback, module: Module | None = None, resume: Path | None = None,
        **options: Any) -> Module:  # fmt: skip
    torch.manual_seed(0)
    module = module or Module()
    run = trainer(place, ExactResume(), *callbacks, **{"max_epochs": 2, **options})
    run.fit(module, loader(), loader(), ckpt_path=resume, weights_only=True)
    return module


def best(place: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=place, filename="best", monitor="val/score", mode="max")


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_follows_its_equation_and_is_what_is_validated_and_kept(decay: float, tmp_path: Path) -> None:
    follow = Follow(decay)
    module = fit(tmp_path, follow, AverageWeights(decay=decay), best(tmp_path), max_epochs=1)
    assert follow.steps == 4
    assert follow.validated
    assert all(follow.validated)
    assert follow.behind == [False]  # the training goes on with its own
    assert follow.is_shown(module)  # and ends with the average
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    for name, value in follow.average.items():
        torch.testing.assert_close(content["state_dict"][f"model.{name}"].double(), value, atol=1e-6, rtol=0)
    own = content[AVERAGING_KEY]["weights"]
    assert own.keys() == follow.average.keys()
    weight = "backbone.conv.weight"
    assert not torch.equal(own[weight], content["state_dict"][f"model.{weight}"])
    plain = fit(tmp_path / "plain", AverageWeights(), best(tmp_path / "plain"), max_epochs=1)
    assert torch.equal(own[weight], plain.model.backbone.conv.weight)  # what is averaged is what would be trained
    assert AVERAGING_KEY not in torch.load(tmp_path / "plain/best.ckpt", weights_only=True)


def test_a_checkpoint_with_an_average_wants_one_and_one_without_begins_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "with", AverageWeights(decay=0.9), best(tmp_path / "with"), max_epochs=1)
    fit(tmp_path / "without", AverageWeights(), best(tmp_path / "without"), max_epochs=1)
    for callbacks in ((), (AverageWeights(),)):
        with pytest.raises(UserError, match=r"callbacks\.average_weights\.decay=0\.9, or begin"):
            fit(tmp_path / "a", *callbacks, resume=tmp_path / "with/best.ckpt")
    follow = Follow(0.9)
    module = fit(tmp_path / "b", follow, AverageWeights(decay=0.9), resume=tmp_path / "without/best.ckpt")
    assert "has no average of the weights" in capsys.readouterr().out
    assert follow.steps == 4
    assert follow.is_shown(module)


def test_an_average_that_begins_behind_a_resume_counts_steps_and_no_batches(tmp_path: Path) -> None:
    fit(tmp_path / "a", AverageWeights(), best(tmp_path / "a"), max_epochs=1)
    averaging = AverageWeights(decay=0.9)
    fit(tmp_path / "b", averaging, resume=tmp_path / "a/best.ckpt", accumulate_grad_batches=2)
    assert averaging._steps == 2  # of four batches


def test_values_that_make_no_sense() -> None:
    with pytest.raises(UserError, match=r"callbacks\.average_weights\.decay=1"):
        AverageWeights(decay=1)
    with pytest.raises(UserError, match=r"callbacks\.stop_early\.mode=up"):
        StopEarly(mode="up")


SCORES = (0.1, 0.3, 0.3, 0.2, 0.4, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [({"patience": 2}, 4), ({"patience": 3}, 8), ({"patience": 1}, 3), ({"patience": 2, "min_delta": 0.25}, 3),
     ({"patience": 2, "mode": "min"}, 3), ({}, 8)],
)  # fmt: skip
def test_ends_where_the_score_has_not_risen(
    options: dict[str, Any], epochs: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = StopEarly(**options)
    module = fit(tmp_path, stop, module=Module(score=SCORES), max_epochs=8)
    assert module.trainer.current_epoch == epochs
    assert stop.stopped == (epochs < 8)
    assert ("stopped early: val/score has not come" in capsys.readouterr().out) == (epochs < 8)


def test_more_patience_goes_on_and_the_same_is_over(tmp_path: Path) -> None:
    from fastfcn.checkpointing import LastCheckpoint

    def run(patience: int, resume: Path | None = None) -> int:
        last = LastCheckpoint(dirpath=str(tmp_path), minutes=None)
        module = fit(tmp_path, StopEarly(patience=patience), last, module=Module(score=SCORES), max_epochs=8,
                     resume=resume, enable_checkpointing=True)  # fmt: skip
        return int(module.trainer.global_step)

    assert run(2) == 16
    assert run(2, tmp_path / "last.ckpt") == 16
    assert run(3, tmp_path / "last.ckpt") == 32


def test_a_figure_that_is_not_logged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stop_early\.monitor=val/foo: .* val/mIoU, val/score"):
        fit(tmp_path, StopEarly(patience=1, monitor="val/foo"))


@pytest.mark.slow
def test_train_py_averages_stops_weights_classes_and_tells(data_dir: Path, tmp_path: Path) -> None:
    more = (
        "callbacks.average_weights.decay=0.9", "callbacks.stop_early.patience=1",
        "callbacks.stop_early.min_delta=1", "trainer.max_epochs=4",
        "loss=focal", "loss.class_weights=median_frequency", "data.class_crops=0.5",
    )  # fmt: skip
    tiny = [item for item in TINY if "max_epochs" not in item]
    command = ("train.py", *tiny, *more, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    done = call(*command).check()
    assert "class weights by median_frequency: sky " in done.out
    assert "stopped early: val/score" in done.out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["epochs"], results["stopped_early"]) == (2, True)
    again = call(*command, "resume=auto").check()
    assert "goes on after epoch 2" in again.out
    after = json.loads((tmp_path / "run/results.json").read_text())
    left_out = ("train_seconds",)
    assert {k: v for k, v in after.items() if k not in left_out} == {
        k: v for k, v in results.items() if k not in left_out
    }

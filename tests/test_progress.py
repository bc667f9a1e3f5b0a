import re
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import Callback, RichProgressBar

from fastfcn import progress
from fastfcn.progress import PlainProgress, progress_bar
from tests.toy import Module, loader, trainer


class Clock:
    """Time that passes where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Durations(Callback):
    """Lets the batches of each epoch, and its validation, take so many seconds; the first batch takes 100 more."""

    def __init__(self, clock: Clock, batches: tuple[float, ...], *, validation: float = 0.0) -> None:
        self.clock = clock
        self.batches = batches
        self.validation = validation

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.clock.now += self.batches[batch_idx] + (100 if trainer.global_step == 0 else 0)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.clock.now += self.validation


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines without their metrics."""
    return [
        re.sub(r"  (train|val)/.*", "", line) for line in capsys.readouterr().out.splitlines() if line[:5] == "epoch"
    ]


def test_plain_progress_prints_lines_with_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trainer(tmp_path, PlainProgress(seconds=1000))
    run.fit(Module(), loader(), loader())
    run.test(Module(), loader(), verbose=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("epoch", "test"))]
    assert [line.split("  ")[:2] for line in lines] == [
        ["epoch 1/2", "batch 4/4"],
        ["epoch 1/2", "validated"],
        ["epoch 2/2", "batch 4/4"],
        ["epoch 2/2", "validated"],
        ["test", "batch 4/4"],
    ]
    assert "val/mIoU 0.5" in "".join(lines)
    assert "train/loss" in "".join(lines)


def test_progress_suits_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_bar(), PlainProgress)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(progress_bar(), RichProgressBar)


def test_speed_leaves_out_the_first_batch_and_time_left_counts_validation(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = Durations(clock, (2.0, 2.0, 2.0, 2.0), validation=10.0)
    trainer(tmp_path, steady, PlainProgress(seconds=4), num_sanity_val_steps=0).fit(Module(), loader(), loader())
    assert said(capsys) == [
        "epoch 1/2  batch 1/4",  # 102 s: nothing is known yet
        "epoch 1/2  batch 3/4  0.50 batches/s  0:00:10 left",  # 5 batches of 2 s; no validation was seen yet
        "epoch 1/2  batch 4/4  0.50 batches/s  0:00:08 left",
        "epoch 1/2  validated  0:00:21 left",  # 16 s for 3 batches
        "epoch 2/2  batch 2/4  0.50 batches/s  0:00:08 left",  # 20 s for 5
        "epoch 2/2  batch 4/4  0.50 batches/s",
        "epoch 2/2  validated",
    ]


def test_speed_is_that_of_the_last_batches(clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = Durations(clock, (1.0, 1.0, 8.0, 4.0))
    trainer(tmp_path, slower, PlainProgress(seconds=2), max_epochs=1).fit(Module(), loader())
    speeds = [re.findall(r"([\d.]+) batches/s", line) for line in said(capsys)]
    assert speeds == [[], [f"{1 / 8:.2f}"], [f"{2 / 12:.2f}"]]  # those of six seconds or more


def test_a_validation_amid_an_epoch_does_not_slow_the_batches(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = Durations(clock, (2.0, 2.0, 2.0, 2.0), validation=50.0)
    trainer(tmp_path, steady, PlainProgress(seconds=1), max_epochs=1, val_check_interval=2).fit(
        Module(), loader(), loader()
    )
    assert set(re.findall(r"([\d.]+) batches/s", "".join(said(capsys)))) == {"0.50"}

"""Memory that grows is told from memory that does not."""

from __future__ import annotations

import csv
import mmap
import multiprocessing
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from tests import growth
from tests.toy import Module, loader, trainer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def sizes(per_step: float) -> list[tuple[float, ...]]:
    """A process whose caches fill in the first 150 steps, and which trembles by 20 MiB."""
    chance = random.Random(0)
    return [
        (step, 500 + min(step, 150) + per_step * step + chance.uniform(0, 20), 300.0) for step in range(10, 1010, 10)
    ]


def test_growth_is_told_from_trembling(capsys: pytest.CaptureFixture[str]) -> None:
    assert growth.judge(sizes(0.0), 16) == 0
    assert "GROWS" not in capsys.readouterr().out
    assert growth.judge(sizes(0.05), 16) == 1
    out = capsys.readouterr().out
    assert "it GROWS" in out.splitlines()[0]
    assert "GROWS" not in out.splitlines()[1]
    assert growth.growth(*zip(*[row[:2] for row in sizes(0.05)], strict=True)).line == pytest.approx(50, abs=13)


def test_what_a_training_takes_is_read(tmp_path: Path) -> None:
    """One that keeps 4 MiB at each step."""

    class Leak(pl.Callback):
        def __init__(self) -> None:
            self.kept: list[mmap.mmap] = []

        def on_train_batch_start(self, *_: Any) -> None:
            self.kept.append(mmap.mmap(-1, 2**22))  # past the heap, in which there may be room from before
            self.kept[-1].write(b"x" * 2**22)

    path = tmp_path / "memory.csv"
    trainer(tmp_path, Leak(), growth.Readings(path=str(path), every=1), max_epochs=5).fit(Module(), loader())
    with path.open(newline="") as file:
        rows = [tuple(map(float, row)) for row in csv.reader(file)]
    assert [row[0] for row in rows] == list(range(1, 21))
    assert growth.growth([row[0] for row in rows], [row[1] for row in rows]).line == pytest.approx(4000, rel=0.3)


def test_workers_are_counted() -> None:
    before = set(growth.children())
    event = multiprocessing.get_context("fork").Event()
    worker = multiprocessing.get_context("fork").Process(target=event.wait)
    worker.start()
    try:
        assert set(growth.children()) - before == {worker.pid}
        assert worker.pid is not None
        assert growth.proportional(worker.pid) > 0
    finally:
        event.set()
        worker.join()
    assert growth.proportional(worker.pid) == 0


def test_options() -> None:
    with pytest.raises(SystemExit, match="unknown: step"):
        growth.main(["step=3"])

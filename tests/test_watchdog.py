"""A run that stands still ends, shows where, and one that takes its time goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist

from fastfcn import watchdog
from fastfcn.errors import UserError
from fastfcn.watchdog import HUNG, ONCE, EndWhereItHangs, Watch
from tests import forked
from tests.scripts import TINY, two_processes
from tests.toy import Module, loader, trainer


class Stall(pl.Callback):
    """One process stands still at a batch of the training, for ever."""

    def __init__(self, *, rank: int, batch: int = 1) -> None:
        self.rank, self.batch = rank, batch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_rank == self.rank and batch_idx == self.batch:
            stand_still()


def stand_still() -> None:
    time.sleep(600)


@two_processes
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_stalls_ends_the_run_with_the_stacks_of_both(rank: int, tmp_path: Path, data_dir: Path) -> None:
    run_dir = tmp_path / "run"
    options = [item for item in TINY if not item.startswith(("trainer=", "data.dataset.counts"))]
    begun = time.monotonic()
    ended = forked.train(
        tmp_path, *options, "data.dataset.counts={train:20,val:4,test:4}", "callbacks.watchdog.minutes=0.05",
        f"+callbacks.stall={{_target_: tests.test_watchdog.Stall, rank: {rank}}}", f"paths.data_dir={data_dir}",
        f"hydra.run.dir={run_dir}",
    )  # fmt: skip
    assert [each.code for each in ended] == [HUNG, HUNG]
    assert time.monotonic() - begun < 60
    texts = [(run_dir / f"stacks_rank{each}.txt").read_text() for each in (0, 1)]
    assert "in stand_still" in texts[rank]
    assert "in stand_still" not in texts[1 - rank]
    for each in (0, 1):
        assert f"process {each} of 2 has done nothing for" in texts[each]
        assert "batch" in texts[each].splitlines()[0]
        assert "tests/forked.py" in texts[each]  # down to where the process began
        assert texts[each] in ended[each].text
    status = json.loads((run_dir / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["reason"].startswith("it hangs, process ")
    assert not (run_dir / "results.json").exists()


@two_processes
@pytest.mark.slow
def test_a_process_that_cannot_be_asked_is_ended_by_its_timer(tmp_path: Path) -> None:
    """It holds Python's lock, as a library might; the other one shows its stacks all the same."""

    def run(variables: dict[str, str]) -> int:
        import ctypes

        os.environ.update(variables)
        watchdog._GRACE = 1.0

        class HoldTheLock(pl.Callback):
            def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
                if trainer.global_rank == 1:
                    ctypes.PyDLL(None).sleep(600)

        watch = EndWhereItHangs(directory=str(tmp_path), minutes=0.02)
        trainer(tmp_path, watch, HoldTheLock(), strategy="ddp", devices=2).fit(Module(), loader())
        return 0

    first, second = forked.two(run, tmp_path, timeout=40)
    assert first.code == HUNG
    assert second.code == 1
    assert "Timeout" in second.text
    assert "on_train_batch_end" in second.text


def fitted(tmp_path: Path, watch: EndWhereItHangs, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the watch would have ended a training for; nothing is ended."""
    reasons: list[str] = []

    def stop(self: EndWhereItHangs, own: str, *_: Any) -> None:
        reasons.append(own)
        self._over.set()

    monkeypatch.setattr(EndWhereItHangs, "_stop", stop)
    trainer(tmp_path, watch, max_epochs=1).fit(Module(), loader(), loader())
    assert watch._thread is None
    return reasons


def sleeping(hook: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before: Callable[..., Any] = getattr(Module, hook)

    def slow(self: Module, *arguments: Any) -> Any:
        time.sleep(seconds)
        return before(self, *arguments)

    monkeypatch.setattr(Module, hook, slow)


def test_a_long_validation_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than the limit, each of its batches less."""
    sleeping("validation_step", 0.2, monkeypatch)
    assert fitted(tmp_path, EndWhereItHangs(directory=str(tmp_path), minutes=0.6 / 60), monkeypatch) == []


def test_a_slow_first_step_and_a_checkpoint_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowOnce(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            time.sleep(0.5 if batch_idx == 0 else 0)

        def on_train_batch_end(self, trainer: pl.Trainer, module: Any, out: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

        def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: Any) -> None:
            time.sleep(0.5)

    watch = EndWhereItHangs(directory=str(tmp_path), minutes=0.2 / 60)
    reasons: list[str] = []
    monkeypatch.setattr(EndWhereItHangs, "_stop", lambda self, own, *_: reasons.append(own))
    trainer(tmp_path, watch, SlowOnce(), max_epochs=1).fit(Module(), loader())
    assert (tmp_path / "a.ckpt").exists()
    assert reasons == []


@pytest.mark.parametrize("hook", ["training_step", "validation_step"])
def test_a_slow_step_that_is_not_the_first_is_one(hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping(hook, 0.6, monkeypatch)
    loop = hook.removesuffix("_step")
    [reason] = fitted(tmp_path, EndWhereItHangs(directory=str(tmp_path), minutes=0.2 / 60), monkeypatch)
    assert "process 0 of 1 has done nothing for 0.00" in reason
    assert f"{loop} batch 1 (epoch 0, step " in reason


def test_nothing_is_watched_where_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping("training_step", 0.05, monkeypatch)
    watch = EndWhereItHangs(directory=str(tmp_path), minutes=None)
    assert fitted(tmp_path, watch, monkeypatch) == []
    assert watch._watch is None


def test_a_process_that_was_stopped_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch = Watch(tick=5.0)
    watch.begin("a batch", 60.0)
    now = 5000.0  # Ctrl-Z, and fg
    assert not watch.late()
    for _ in range(10):
        now += 5.0
        assert not watch.late()
    now += 5.0
    assert watch.late()


@two_processes
@pytest.mark.slow
def test_processes_wait_for_each_other_longer_than_the_watch(tmp_path: Path) -> None:
    def run(variables: dict[str, str]) -> int:
        os.environ.update(variables)

        class Look(pl.Callback):
            def on_train_start(self, *_: Any) -> None:
                gloo = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
                print(gloo.options._timeout, flush=True)

        run = trainer(tmp_path, EndWhereItHangs(directory=str(tmp_path), minutes=12), Look(), strategy="ddp", devices=2)
        watchdog.align(run)
        run.fit(Module(), loader())
        return 0

    ended = forked.two(run, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended
    assert all(str(timedelta(minutes=12 + ONCE + 10)) in each.text for each in ended)


@pytest.mark.parametrize("minutes", [0, -1.0, float("inf"), float("nan")])
def test_limits_that_make_no_sense_are_told(minutes: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"callbacks\.watchdog\.minutes="):
        EndWhereItHangs(directory=str(tmp_path), minutes=minutes)

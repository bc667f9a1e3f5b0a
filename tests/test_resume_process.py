"""Runs that are killed or told to end, wherever they stand, and go on: the result is that of a run left in peace.

The runs of a chain share a directory; each is ended at a moment of its own by `tests.kills.SignalAt`, and the next one,
the same command, goes on. What they leave is compared once, to the last bit, with a run of the same processes that
nothing has disturbed. Five batches make an epoch of three optimizer steps, of which the first two take two batches.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kills import Left, differences, left
from tests.scripts import ROOT, SRC, TINY, environment, two_processes

pytestmark = pytest.mark.slow

COMMON = (
    *(item for item in TINY if not item.startswith(("trainer", "data.dataset.counts", "callbacks.show_summary"))),
    "data.dataset.counts={train:20,val:4,test:4}",
    "data.eval_batch_size=1",
    "trainer.max_epochs=2",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1",
    "callbacks.last.every_n_steps=1",
    "callbacks.last.minutes=null",
    "~callbacks.show_summary",
    "~callbacks.draw_predictions",
    "resume=auto",
)
ONE = ("trainer=cpu", *COMMON)
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", *COMMON)


class Try(NamedTuple):
    """One run of a chain: how it ends, and with what code and state."""

    end: str
    code: int
    state: str = "running"  # what is killed cannot say so; a second process may say that it was left alone
    more: tuple[str, ...] = ()


class Called(NamedTuple):
    """What a run has printed, and how it ended."""

    code: int
    out: str
    err: str
    seconds: float  # from the signal to the end


def call(
    run_dir: Path, data_dir: Path, *overrides: str, stamp: Path | None = None, variables: dict[str, str] | None = None
) -> Called:
    """Run train.py as a process of its own, with its children as a group."""
    trace = f"+callbacks.trace={{_target_: tests.kills.Trace, path: '{run_dir}/trace'}}"
    places = (f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}", trace)
    command = [sys.executable, "-u", str(SRC / "train.py"), *overrides, *places]
    process = subprocess.Popen(
        command, env=environment(PYTHONPATH=str(ROOT), **(variables or {})), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        pytest.fail(f"it hangs\n{out}\n{err}")
    since = stamp.stat().st_mtime if stamp is not None and stamp.exists() else time.time()
    return Called(process.returncode, out, err, time.time() - since)


def chain(run_dir: Path, data_dir: Path, common: Sequence[str], tries: Sequence[Try]) -> list[Called]:
    """Run the tries one after the other, each checked, and then one to the end."""
    ends = [
        f"+callbacks.end{number}={{_target_: tests.kills.SignalAt, stamp: '{run_dir}/end{number}', {each.end}}}"
        for number, each in enumerate(tries)
    ]
    run_dir.mkdir(exist_ok=True)
    done = []
    for number, each in enumerate(tries):
        called = call(run_dir, data_dir, *common, *ends, *each.more, stamp=run_dir / f"end{number}")
        assert called.code == each.code, f"{each}\n{called.out}\n{called.err}"
        assert called.seconds < 60
        state = json.loads((run_dir / "status.json").read_text())["state"]
        assert state == each.state or (each.code == -9 and common is TWO and state == "failed"), f"{each}: {state}"
        assert not (run_dir / "results.json").exists()
        assert "Traceback" not in called.err or each.code == -9, called.err
        done.append(called)
    last = call(run_dir, data_dir, *common, *ends)
    assert last.code == 0, f"{last.out}\n{last.err}"
    assert json.loads((run_dir / "status.json").read_text())["state"] == "done"
    return [*done, last]


def check_seen(run_dir: Path, undisturbed: Path, processes: int) -> None:
    """Each batch held the same images, however often it came, and none is missing."""
    for rank in range(processes):
        seen, expected = ((place / f"trace.{rank}").read_text().splitlines() for place in (run_dir, undisturbed))
        assert sorted(set(seen)) == sorted(expected)


class Peace(NamedTuple):
    """A run left in peace."""

    run_dir: Path
    left: Left

    def check(self, run_dir: Path, processes: int = 1) -> None:
        """Another run has come to the same end."""
        assert differences(self.left, left(run_dir), places=(self.run_dir, run_dir)) == []
        check_seen(run_dir, self.run_dir, processes)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Peace:
    run_dir = tmp_path_factory.mktemp("one") / "run"
    chain(run_dir, data_dir, ONE, [])
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {
        f"{name}.ckpt{end}" for name in ("best", "last", "previous") for end in ("", ".sha256")
    }
    return Peace(run_dir, left(run_dir))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Peace:
    run_dir = tmp_path_factory.mktemp("two") / "run"
    chain(run_dir, data_dir, TWO, [])
    return Peace(run_dir, left(run_dir))


KILLS = (
    "sign: SIGKILL, step: 1",
    "sign: SIGKILL, step: 1, batch: 2",  # in the midst of an accumulation
    "sign: SIGKILL, step: 3",  # the last of an epoch
    "sign: SIGKILL, step: 3, where: validation, batch: 1",
    "sign: SIGKILL, step: 4",  # the first of the next
    "sign: SIGKILL, step: 5, batch: 3",  # in mid-epoch
    "sign: SIGKILL, step: 6, where: validation, batch: 0",
)


@pytest.mark.parametrize("first", [0, 2])
def test_killed_anywhere(first: int, one: Peace, tmp_path: Path, data_dir: Path) -> None:
    """Every other try has two workers, so that each end is met by none and by two."""
    tries = [
        Try(end, -9, more=(f"data.num_workers={first if number % 2 == 0 else 2 - first}",))
        for number, end in enumerate(KILLS)
    ]
    done = chain(tmp_path / "run", data_dir, ONE, tries)
    one.check(tmp_path / "run")
    assert "goes on in epoch 1 after step 1" in done[2].out
    assert "goes on after epoch 1" in done[5].out
    assert "workers instead of" in done[2].out
    assert all("is seen exactly once" not in called.err for called in done)


def test_told_to_end(one: Peace, tmp_path: Path, data_dir: Path) -> None:
    tries = [
        Try("sign: SIGTERM, where: start", 143, "preempted"),  # nothing has begun
        Try("sign: SIGTERM, step: 1, batch: 2", 143, "preempted", ("data.num_workers=2",)),
        Try("sign: SIGUSR1, step: 3, where: validation, batch: 0", 143, "preempted"),
        Try("sign: SIGINT, step: 3, where: validation, batch: 3", 130, "interrupted"),
        Try("sign: SIGINT, step: 4", 130, "interrupted"),
        Try("sign: SIGTERM, step: 5, pause: 1.5", 143, "preempted"),  # twice, and at once
        Try("sign: SIGTERM, step: 6, batch: 4", 143, "preempted"),
    ]
    done = chain(tmp_path / "run", data_dir, ONE, tries)
    one.check(tmp_path / "run")
    assert "goes on" not in done[1].out
    assert "stopped by SIGTERM after step 2" in done[1].out
    assert "goes on in epoch 1 after step 2" in done[2].out
    assert "goes on in epoch 1 after step 3" in done[3].out  # the validation is begun again
    assert "stopped by" not in done[5].out


@two_processes
def test_two_processes(two: Peace, tmp_path: Path, data_dir: Path) -> None:
    """The signal comes to one of them, and both stop at the same step."""
    workers = ("data.num_workers=2",)
    tries = [
        Try("sign: SIGKILL, step: 1, batch: 2", -9),
        Try("sign: SIGTERM, step: 2, rank: 1", 143, "preempted", workers),
        Try("sign: SIGKILL, step: 3, where: validation, batch: 0", -9, more=workers),
        Try("sign: SIGTERM, step: 3, where: validation, batch: 0", 143, "preempted"),
        Try("sign: SIGKILL, step: 4", -9, more=workers),
        Try("sign: SIGINT, step: 5, batch: 3", 130, "interrupted"),
    ]
    chain(tmp_path / "run", data_dir, TWO, tries)
    two.check(tmp_path / "run", processes=2)


@two_processes
def test_another_number_of_processes(one: Peace, tmp_path: Path, data_dir: Path) -> None:
    """Every image of the epoch is seen exactly once, and it says so."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    end = f"+callbacks.end={{_target_: tests.kills.SignalAt, stamp: '{run_dir}/end', sign: SIGTERM, step: 4}}"
    assert call(run_dir, data_dir, *ONE, end).code == 143
    rest = call(run_dir, data_dir, *TWO, end)
    assert rest.code == 0, rest.err
    line = "goes on with 2 processes instead of 1: each image of the epoch is seen exactly once"
    assert rest.out.count(line) == 1
    batches: dict[tuple[str, str], set[str]] = {}
    for rank in (0, 1):
        for epoch, batch, names, _ in map(str.split, (run_dir / f"trace.{rank}").read_text().splitlines()):
            assert batches.setdefault((epoch, batch), set()).isdisjoint(names.split(","))
            batches[epoch, batch] |= set(names.split(","))
    expected = map(str.split, (one.run_dir / "trace.0").read_text().splitlines())
    assert batches == {(epoch, batch): set(names.split(",")) for epoch, batch, names, _ in expected}


@two_processes
def test_torchrun_starts_again_and_goes_on(two: Peace, tmp_path: Path, data_dir: Path) -> None:
    """Without resume=auto: torchrun says that it has started the processes before."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    options = [item for item in TWO if not item.startswith(("resume=", "trainer.devices="))]
    end = f"+callbacks.end={{_target_: tests.kills.SignalAt, stamp: '{run_dir}/end', sign: SIGKILL, step: 4, rank: 1}}"
    trace = f"+callbacks.trace={{_target_: tests.kills.Trace, path: '{run_dir}/trace'}}"
    places = (f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}", trace, end)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    process = subprocess.Popen(
        [sys.executable, *launcher, str(SRC / "train.py"), *options, *places],
        env=environment(PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        pytest.fail(f"it hangs\n{process.communicate()[0]}")
    assert process.returncode == 0, out
    assert "goes on after epoch 1" in out
    two.check(run_dir, processes=2)


def test_slurm_queues_it_again(tmp_path: Path, data_dir: Path) -> None:
    """At the signal that a batch file asks for; scontrol is a stand-in."""
    run_dir, called = tmp_path / "run", tmp_path / "called"
    run_dir.mkdir()
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {called}\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    slurm |= {"SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    end = f"+callbacks.end={{_target_: tests.kills.SignalAt, stamp: '{run_dir}/end', sign: SIGUSR1, step: 1}}"
    ended = call(run_dir, data_dir, *ONE, end, variables=slurm)
    assert ended.code == 143, ended.err
    assert called.read_text().strip() == "requeue 4711"
    assert not list(run_dir.rglob("hpc_ckpt*"))

"""train.py on several processes, however they are started: the same training, one run directory, and no hang."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.scripts import ROOT, SRC, TINY, environment, start, two_processes

pytestmark = [
    pytest.mark.slow,
    two_processes,
]

DDP = ("trainer=ddp", "trainer.accelerator=cpu")
#: Ten steps of eight images with padded borders, in double precision: in single, rounding alone grows to 1e-3 by then.
TEN_STEPS = (
    *(item for item in TINY if not item.startswith(("trainer=", "data.dataset.counts", "data.batch_size"))),
    "data.dataset.counts={train:80,val:4,test:4}",
    "data.batch_size=8",
    "trainer.log_every_n_steps=1",
    "trainer.precision=64-true",
    "test=false",
)


def losses(run_dir: Path) -> dict[str, list[float]]:
    """Each training loss and rate step by step, and what the epoch ended with."""
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(("train/", "val/", "lr"))]
    return {name: [float(row[name]) for row in rows if row[name]] for name in names}


class Agent(NamedTuple):
    """A torchrun and the processes below it, with what they print; a pipe that nobody empties would stop them."""

    process: subprocess.Popen[bytes]
    output: Path

    def told(self) -> str:
        """What it has printed so far."""
        return f"{self.process.args!r}\nexit code {self.process.poll()}\n{self.output.read_text(errors='replace')}"


def torchrun(*arguments: str, cwd: Path, name: str = "agent") -> Agent:
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    output = cwd / f"{name}.log"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=cwd, env=environment(PYTHONFAULTHANDLER="1"), stdout=file, stderr=file)
    return Agent(process, output)


def with_all_below(pid: int) -> list[int]:
    """A process and its descendants, which torchrun starts in sessions of their own; alone where /proc is not."""
    above = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            above[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in above.items() if parent == each]
    return found


def wait_for(*agents: Agent, seconds: float = 300) -> None:
    """Wait until all agents have ended well; where they do not, show what each has printed and where it stands."""
    until = time.monotonic() + seconds
    try:
        for agent in agents:
            agent.process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        running = [pid for agent in agents for pid in with_all_below(agent.process.pid)]
        for sign in (signal.SIGABRT, signal.SIGKILL):  # at the first one each shows its stacks
            for pid in reversed(running):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(3)
        told = "\n\n".join(agent.told() for agent in agents)
        pytest.fail(f"they have not ended within {seconds:.0f} s\n{told}")
    assert [agent.process.returncode for agent in agents] == [0] * len(agents), "\n\n".join(a.told() for a in agents)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> dict[str, list[float]]:
    """The training by one process."""
    run_dir = tmp_path_factory.mktemp("single")
    start("train.py", "trainer=cpu", *TEN_STEPS, f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}").check()
    found = losses(run_dir)
    assert len(found["train/loss_step"]) == 10
    assert {"train/ce", "train/aux", "train/presence", "val/loss", "val/score"} <= set(found)
    return found


def check_same(run_dir: Path, single: dict[str, list[float]]) -> None:
    found = losses(run_dir)
    assert set(found) == set(single)
    for name, values in single.items():
        assert found[name] == pytest.approx(values, rel=1e-5), name  # 1e-15 was seen


def test_two_times_four_is_eight(tmp_path: Path, data_dir: Path, single: dict[str, list[float]]) -> None:
    overrides = (*TEN_STEPS, *DDP, "trainer.devices=2", f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}")
    start("train.py", *overrides).check()
    check_same(tmp_path, single)


def test_torchrun_on_one_node(tmp_path: Path, data_dir: Path, single: dict[str, list[float]]) -> None:
    script = (str(SRC / "train.py"), *TEN_STEPS, *DDP, f"paths.data_dir={data_dir}")
    wait_for(torchrun("--standalone", "--nproc_per_node=2", *script, cwd=tmp_path))
    [run_dir] = (tmp_path / "outputs/train").glob("*/*")
    assert json.loads((run_dir / "results.json").read_text())["processes"] == 2
    check_same(run_dir, single)


def test_torchrun_on_two_nodes(tmp_path: Path, data_dir: Path, single: dict[str, list[float]]) -> None:
    """Two agents that find each other by the loopback; trainer.num_nodes and trainer.devices come from them."""
    port = free_port()
    script = (str(SRC / "train.py"), *TEN_STEPS, *DDP, f"paths.data_dir={data_dir}")
    agents = [
        torchrun(
            "--nnodes=2", f"--node_rank={node}", "--nproc_per_node=1", "--master_addr=127.0.0.1",
            f"--master_port={port}", *script, cwd=tmp_path, name=f"node{node}",
        )
        for node in (0, 1)
    ]  # fmt: skip
    wait_for(*agents)
    [run_dir] = (tmp_path / "outputs/train").glob("*/*")
    check_same(run_dir, single)


@pytest.mark.parametrize(
    ("how", "rank", "told"),
    [
        ("error", 1, "this process ends by a fault"),
        ("error", 0, "this process ends by a fault"),
        ("early", 1, "before it has met the others"),
        ("kill", 1, None),
    ],
)
def test_a_process_that_dies_ends_the_run(
    how: str, rank: int, told: str | None, tmp_path: Path, data_dir: Path
) -> None:
    stamp = tmp_path / "stamp"
    end = f"+callbacks.end={{_target_: tests.extras.EndWith, stamp: '{stamp}', how: {how}, rank: {rank}}}"
    overrides = (*TEN_STEPS, *DDP, "trainer.devices=2", f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}", end)
    command = [sys.executable, str(SRC / "train.py"), *overrides]
    process = subprocess.Popen(
        command, env=environment(PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate(timeout=200)
    ended = time.time()
    assert process.returncode != 0
    if told is not None:
        assert told in err
        assert ("Traceback" in err) is (how == "error")  # what cannot be built is told in a sentence
        assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    assert not (tmp_path / "results.json").exists(), out
    assert ended - stamp.stat().st_mtime < 30

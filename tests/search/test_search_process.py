"""sweep=search with real trainings: killed in the middle, and called again."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastfcn import status
from fastfcn.search.reporter import Reporter
from tests.scripts import SRC, TINY, environment, start
from tests.search.fakes import open_search

pytestmark = pytest.mark.slow


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_search_that_is_killed_and_called_again_takes_its_budget(tmp_path: Path, data_dir: Path) -> None:
    sweep_dir = tmp_path / "search"
    tiny = [item for item in TINY if not item.startswith("trainer.max_epochs")]
    arguments = [
        "sweep=search", *tiny, "trainer.max_epochs=3", "test=false", "optim.lr=tag(log,interval(1e-5,1.0))",
        "hydra.sweeper.trials=4", "hydra.sweeper.pruner=halving", f"hydra.sweep.dir={sweep_dir}",
        f"paths.data_dir={data_dir}",
    ]  # fmt: skip
    with (tmp_path / "first.log").open("w") as log:
        command = [sys.executable, str(SRC / "train.py"), *arguments]
        sweep = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
        wait_until(lambda: list(sweep_dir.glob("trial-000-*/checkpoints/last.ckpt")) or sweep.poll() is not None, 600)
        sweep.send_signal(signal.SIGKILL)
        assert sweep.wait() == -signal.SIGKILL, (tmp_path / "first.log").read_text()
    [first] = sweep_dir.glob("trial-*")
    begun = status.read(first)
    assert begun is not None
    assert begun.pid is not None
    if sys.platform.startswith("linux"):
        wait_until(lambda: not alive(begun.pid or 0), 120)  # it does not outlive the search
    [before] = json.loads((sweep_dir / "sweep.json").read_text())["jobs"]

    done = start("train.py", *arguments, timeout=1200).check()
    assert re.search("goes on (after|in) epoch", done.out)
    with (sweep_dir / "study.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == len(list(sweep_dir.glob("trial-*"))) == 4
    assert {trial["state"] for trial in trials} == {"done", "pruned"}
    assert json.loads((sweep_dir / "sweep.json").read_text())["jobs"][0] == before
    for trial in trials:
        run_dir = sweep_dir / trial["directory"]
        told = status.read(run_dir)
        assert told is not None
        assert told.state == trial["state"]
        assert (run_dir / "results.json").exists() == (trial["state"] == "done")
        if trial["state"] == "pruned":
            assert (
                trial["reason"]
                == told.reason
                == f"val/score {float(trial['score']):.4f} after 1 epoch, by pruner=halving"
            )
            assert "val/score" in (run_dir / "metrics.csv").read_text()
    best = max((trial for trial in trials if trial["state"] == "done"), key=lambda trial: float(trial["score"]))
    assert f"lr: {best['optim.lr']}\n" in (sweep_dir / "best.yaml").read_text()

    again = start("train.py", *arguments).check()
    assert "starts" not in again.out


def test_two_processes_of_a_trial_stop_together(tmp_path: Path, data_dir: Path) -> None:
    search = open_search(tmp_path, pruner="median", startup_trials=1)
    good, poor = search.ask(), search.ask()
    Reporter(tmp_path, good.number).report(1.0, epochs=1)
    search.tell(good.number, "done", score=1.0)
    run_dir = tmp_path / "trial-001"
    done = start(
        "train.py", *TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2",
        "sweep=search", "hydra.mode=RUN", f"hydra.run.dir={run_dir}", f"callbacks.report_to_study.trial={poor.number}",
        f"paths.data_dir={data_dir}",
    ).check()  # fmt: skip
    told = status.read(run_dir)
    assert told is not None
    assert told.state == "pruned"
    assert done.out.count("pruned: val/score") == 1
    assert "Traceback" not in done.err
    [_, trial] = open_search(tmp_path, pruner="median", startup_trials=1).trials()
    assert (trial.state, trial.epochs) == ("running", 1)  # the search itself tells its end

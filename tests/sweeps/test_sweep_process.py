"""Sweeps as real processes: jobs that fail, jobs that are killed, second calls, and the launchers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastfcn import status
from fastfcn.naming import SWEEP_FILE
from tests.scripts import ROOT, SRC, TINY, environment, start

pytestmark = pytest.mark.slow

#: A training without what only some heads and upsamplers have.
SMALL = tuple(item for item in TINY if not item.startswith(("head.", "upsample.")))
WAIT = "+callbacks.wait={_target_: tests.extras.Wait, seconds: 3}"


def begin(*overrides: str, cwd: Path) -> subprocess.Popen[str]:
    """A sweep that goes on while the test looks at it."""
    command = [sys.executable, "-u", str(SRC / "train.py"), *overrides]
    variables = environment(PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(what: str, seen: object, *, seconds: float = 300.0) -> None:
    assert callable(seen)
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def parent(pid: int) -> int:
    """The process above another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_job_that_fails_stops_no_other_and_is_told(tmp_path: Path, data_dir: Path) -> None:
    sweep = ("sweep=grid", "upsample=bilinear", "optim.lr=-1,0.01", f"paths.data_dir={data_dir}", *SMALL)
    first = start("train.py", *sweep, cwd=tmp_path)
    assert first.code == 1, first.out + first.err
    place = tmp_path / "outputs/grid/scenes"
    failed, done = (place / f"encoding-bilinear-r18-os32-s0-optim.lr={lr}" for lr in ("-1", "0.01"))
    assert "Traceback" not in first.out + first.err
    assert f"{failed.name}: optim.lr=-1" in first.out
    assert "1 of 2 jobs are not done" in first.out
    assert "sweep=grid" in first.out.rstrip().splitlines()[-1]  # the command that goes on
    told = status.read(failed)
    assert told is not None
    assert told.state == "failed"
    assert told.reason is not None
    assert "optim.lr=-1: give a number above 0" in told.reason
    written = (done / "results.json").stat().st_mtime_ns
    second = start("train.py", *sweep, cwd=tmp_path)
    assert second.code == 1
    assert "2 jobs in" in second.out
    assert "1 done, 1 new" in second.out
    assert (done / "results.json").stat().st_mtime_ns == written
    # With the same place and another setting nothing is overwritten.
    other = start("train.py", *sweep, "trainer.max_epochs=2", cwd=tmp_path)
    assert "trainer.max_epochs=1, now it is 2" in other.sentence()


def test_killed_jobs_go_on_with_a_second_call(tmp_path: Path, data_dir: Path) -> None:
    """SIGKILL to a job, then to the whole sweep: each time the same command goes on."""
    sweep = ("sweep=table1", "head=encoding", "upsample=bilinear,jpu", f"paths.data_dir={data_dir}", *SMALL)
    overrides = (*sweep, "trainer.max_epochs=4", WAIT)
    place = tmp_path / "outputs/table1/scenes"
    first, second = (place / f"encoding-{upsample}-r18-os32-s0" for upsample in ("bilinear", "jpu"))

    process = begin(*overrides, cwd=tmp_path)
    wait_for("a checkpoint", (first / "checkpoints/last.ckpt").exists)
    told = status.read(first)
    assert told is not None
    assert told.pid is not None
    os.kill(told.pid, signal.SIGKILL)
    wait_for("the second job", (second / "checkpoints/last.ckpt").exists)
    process.kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, out
    told = status.read(first)
    assert told is not None
    assert (told.state, told.reason) == ("failed", "killed by SIGKILL")
    wait_for("the job to end with its sweep", lambda: not status.is_held(second))
    assert not list(place.glob("*/results.json"))

    again = start("train.py", *overrides, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert again.code == 0, again.out + again.err
    assert "2 jobs in" in again.out
    assert "2 goes on" in again.out
    assert len(re.findall("goes on (?:after|in) epoch ", again.out)) == 2
    for run_dir in (first, second):
        results = json.loads((run_dir / "results.json").read_text())
        assert (results["epochs"], results["steps"]) == (4, 8)
        told = status.read(run_dir)
        assert told is not None
        assert told.state == "done"
    assert len(list(place.glob("*/config.yaml"))) == 2
    listed = json.loads((place / SWEEP_FILE).read_text())["jobs"]
    assert [entry["name"] for entry in listed] == [first.name, second.name]


def test_each_job_runs_its_two_processes_once(tmp_path: Path, data_dir: Path) -> None:
    """A multirun with DDP: as many run directories as jobs, and two processes in each."""
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    values = ("-m", "upsample=bilinear,fpn", f"hydra.sweep.dir={tmp_path}/sweep", f"paths.data_dir={data_dir}")
    small = [item for item in SMALL if not item.startswith("trainer=")]
    done = start("train.py", *values, *small, *ddp, cwd=tmp_path).check()
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    runs = sorted(path.parent.name for path in tmp_path.rglob("config.yaml") if path.parent.name != ".hydra")
    assert runs == ["encoding-bilinear-r18-os32-s0", "encoding-fpn-r18-os32-s0"]
    for run in runs:
        results = json.loads((tmp_path / "sweep" / run / "results.json").read_text())
        assert (results["processes"], results["steps"]) == (2, 2)
        command = json.loads((tmp_path / "sweep" / run / "provenance.json").read_text())["command"]
        assert "hydra.mode=RUN" in command  # which reproduces this run alone
    assert done.out.count("best checkpoint:") == 2


def test_joblib_deals_gpus(tmp_path: Path, data_dir: Path) -> None:
    """Two jobs side by side with a GPU each, by what the driver's program lists."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: GPU-1)'\necho 'GPU 1: another (UUID: GPU-2)'\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    values = ("upsample=bilinear,fpn", "hydra/launcher=joblib", f"paths.data_dir={data_dir}")
    small = [item for item in SMALL if not item.startswith("trainer=")]
    # There is no GPU: what torch makes of the share is a CPU.
    done = start("train.py", "sweep=grid", *values, *small, cwd=tmp_path, PATH=path, TMPDIR=str(tmp_path)).check()
    found = [status.read(path.parent) for path in sorted(tmp_path.rglob("status.json"))]
    assert sorted(told.devices or "" for told in found if told is not None) == ["0", "1"]
    assert done.out.count("starts  ") == done.out.count("  val/score ") == 2
    logs = sorted(tmp_path.rglob("output.log"))
    assert len(logs) == 2
    assert all("best checkpoint:" in log.read_text() for log in logs)


def test_a_job_that_a_cluster_takes_back_goes_on(tmp_path: Path, data_dir: Path) -> None:
    """submitit, on this machine: a job gets the signal of a pre-emption, is queued again, and comes to its end."""
    place = tmp_path / "outputs/grid/scenes"
    run_dir = place / "encoding-bilinear-r18-os32-s0"
    values = (
        "sweep=grid",
        "upsample=bilinear",
        "seed=0",
        "hydra/launcher=submitit",
        f"paths.data_dir={data_dir}",
    )
    process = begin(*values, *SMALL, "trainer.max_epochs=4", WAIT, cwd=tmp_path)
    wait_for("a checkpoint", (run_dir / "checkpoints/last.ckpt").exists)
    told = status.read(run_dir)
    assert told is not None
    assert told.pid is not None
    above = parent(told.pid)
    assert "submitit" in Path(f"/proc/{above}/cmdline").read_text()
    os.kill(told.pid, signal.SIGUSR2)  # Slurm signals the whole job: it is not the job's to act on
    os.kill(above, signal.SIGUSR2)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    log = (run_dir / "output.log").read_text()
    assert len(re.findall("goes on (?:after|in) epoch ", log)) == 1, log
    assert json.loads((run_dir / "results.json").read_text())["epochs"] == 4
    after = status.read(run_dir)
    assert after is not None
    assert after.pid != told.pid


def test_a_job_that_a_cluster_kills_does_not_end_the_wait_for_the_others(tmp_path: Path, data_dir: Path) -> None:
    place = tmp_path / "outputs/grid/scenes"
    values = ("sweep=grid", "upsample=bilinear,fpn", "hydra/launcher=submitit", f"paths.data_dir={data_dir}")
    process = begin(*values, *SMALL, "trainer.max_epochs=4", WAIT, cwd=tmp_path)
    killed = place / "encoding-bilinear-r18-os32-s0"
    wait_for("a checkpoint", (killed / "checkpoints/last.ckpt").exists)
    told = status.read(killed)
    assert told is not None
    assert told.pid is not None
    os.kill(parent(told.pid), signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, out
    assert f"{killed.name}: SIGTERM" in out  # it has said so itself, when the process above it was gone
    assert "1 of 2 jobs are not done" in out
    assert "the launcher stopped" not in out
    assert not (killed / "results.json").exists()
    assert (place / "encoding-fpn-r18-os32-s0/results.json").exists()


def test_a_sweep_under_torchrun_is_refused(tmp_path: Path) -> None:
    done = start("train.py", "sweep=table1", cwd=tmp_path, WORLD_SIZE="2", RANK="0")
    assert "call it by python" in done.sentence()


def test_two_runs_do_not_share_a_directory(tmp_path: Path, data_dir: Path) -> None:
    with status.held(tmp_path / "run"):
        done = start("train.py", *TINY, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    assert "is in use by" in done.sentence()


def test_two_calls_at_once_share_the_jobs(tmp_path: Path, data_dir: Path) -> None:
    """Both see the same free directory, and one of the two jobs finds it taken."""
    sweep = ("sweep=grid", "upsample=bilinear", "optim.lr=0.01", f"paths.data_dir={data_dir}", *SMALL)
    two = [begin(*sweep, cwd=tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=300)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], told
    [run] = (tmp_path / "outputs/grid/scenes").glob("*/results.json")
    assert len((run.parent / "metrics.csv").read_text().splitlines()) == len(set((run.parent / "metrics.csv").open()))


def test_jobs_have_the_configuration_that_the_sweep_was_called_with(tmp_path: Path, data_dir: Path) -> None:
    """A configuration of one's own, from another folder, in a multirun."""
    (tmp_path / "conf").mkdir()
    text = "defaults:\n  - train\n  - _self_\n  - override /upsample: bilinear\nseed: 7\n"
    (tmp_path / "conf/mine.yaml").write_text(text)
    named = ("--config-dir", str(tmp_path / "conf"), "--config-name", "mine", "-m", f"hydra.sweep.dir={tmp_path}/sweep")
    start("train.py", *named, f"paths.data_dir={data_dir}", *SMALL, cwd=tmp_path).check()
    [run_dir] = [path.parent for path in (tmp_path / "sweep").glob("*/results.json")]
    assert run_dir.name == "encoding-bilinear-r18-os32-s7"
    assert "\nseed: 7\n" in f"\n{(run_dir / 'config.yaml').read_text()}"


def test_a_job_that_cannot_be_started_is_told_with_its_reason(tmp_path: Path) -> None:
    """More GPUs for a job than there are."""
    ddp = ("trainer=ddp", "trainer.devices=4", "hydra/launcher=joblib")
    values = ("sweep=grid", "upsample=bilinear", *ddp)
    done = start("train.py", *values, cwd=tmp_path, CUDA_VISIBLE_DEVICES="0,1", TMPDIR=str(tmp_path))
    assert done.code == 1
    assert "each job wants so many GPUs and there are 2" in done.out


def test_a_checkpoint_for_all_jobs_is_refused(tmp_path: Path) -> None:
    done = start("train.py", "sweep=seeds", "resume=last.ckpt", cwd=tmp_path)
    assert "init_from=" in done.sentence()

"""One job of a sweep as a process of its own.

A process of its own is what a single call of the script is: nothing of the job before is left in memory or on the GPU,
a crash takes no other job with it, and a job of several processes (DDP) starts them by its own command line and not by
that of the whole sweep.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from fastfcn import status
from fastfcn.naming import RESULTS_FILE
from fastfcn.sweeps.jobs import is_done, quoted

LOG_FILE = "output.log"

#: Set for a job: the process that it is not to outlive.
PARENT = "FASTFCN_SWEEP_PROCESS"

#: prctl's PR_SET_PDEATHSIG.
_PARENT_DEATH_SIGNAL = 1

#: Seconds that a job is given to end in order after Ctrl-C.
GRACE = 60.0

#: How the reason of a job begins that ended by a signal, and so for nothing that it did.
KILLED = "killed by "


class JobFailed(Exception):  # noqa: N818 - it is the job that failed, the sweep goes on
    """A job has ended without results; the sweep goes on."""


def run(
    script: str | Path,
    overrides: Sequence[str],
    *,
    run_dir: Path,
    cwd: str | Path,
    environment: Mapping[str, str] | None = None,
    devices: int | None = None,
    log: bool = False,
    deadline: float | None = None,
) -> float | None:
    """Run a script with the overrides of one job, and wait for its end.

    Args:
        script: the script.
        overrides: of the job.
        run_dir: its run directory.
        cwd: where the sweep was called.
        environment: variables for this job.
        devices: how many of them the job sees by these variables; None leaves ``trainer.devices`` as it is.
        log: append what it prints to ``output.log`` in the run directory instead of showing it.
        deadline: by ``time.monotonic``, when the job is told to end in order.

    Returns:
        The best validation score; None where there is none, or where the run was pruned.

    Raises:
        JobFailed: it left no results.
    """
    first = status.first_process()  # of the tasks that a cluster starts for one job
    command = [sys.executable, str(script), *overrides, "hydra.mode=RUN", f"hydra.run.dir={quoted(run_dir)}"]
    command += [] if devices is None else [f"trainer.devices={devices}"]
    variables = {**os.environ, PARENT: str(os.getpid()), **(environment or {})}
    while True:
        if first:
            _wait_until_free(run_dir)
            if is_done(run_dir):
                return _score(run_dir)  # another call of the sweep has brought it to its end
        pid, code = _start_and_wait(command, run_dir=run_dir, cwd=cwd, variables=variables, log=log, deadline=deadline)
        if not first:  # the first task keeps how the run ended
            if code:
                raise JobFailed(f"exit code {code}")
            return None
        if not (code and _another_was_faster(run_dir, pid)):
            return _outcome(run_dir, pid, code)


def _start_and_wait(
    command: Sequence[str],
    *,
    run_dir: Path,
    cwd: str | Path,
    variables: Mapping[str, str],
    log: bool,
    deadline: float | None,
) -> tuple[int, int]:
    """Start a job and wait for its end: its process's id and exit code."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        output: IO[str] | None = None
        if log:
            output = stack.enter_context((run_dir / LOG_FILE).open("a", encoding="utf-8"))
        process = subprocess.Popen(command, cwd=cwd, env=variables, stdout=output, stderr=output)
        try:
            code = _wait(process, deadline)
        except KeyboardInterrupt:  # the job has got it too
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            raise
        finally:
            if process.poll() is None:
                process.terminate()
    return process.pid, code


def _another_was_faster(run_dir: Path, pid: int) -> bool:
    """Whether the directory was taken, between the look at it and the job's own, by a job of another sweep."""
    told = status.read(run_dir)
    return status.is_held(run_dir) and (told is None or told.pid != pid)


def obey_sweep() -> None:
    """In a job of a sweep: end when the sweep is killed, and leave a cluster's signals to it."""
    if PARENT not in os.environ:
        return
    if sys.platform.startswith("linux"):  # elsewhere a job outlives its sweep, and the next call waits for it
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if hasattr(signal, "SIGUSR2"):
        # Slurm signals every process of a job that it pre-empts. submitit, above this one, has it queued again; this
        # one would be killed before its time.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _wait(process: subprocess.Popen[bytes], deadline: float | None) -> int:
    if deadline is None:
        return process.wait()
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        # What a script starts in the background ignores Ctrl-C, and so do the jobs that it starts.
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _outcome(run_dir: Path, pid: int, code: int) -> float | None:
    if is_done(run_dir):
        return _score(run_dir)
    reason = f"{KILLED}{signal.Signals(-code).name}" if code < 0 else f"exit code {code}, its output says why"
    told = status.read(run_dir)
    if told is not None and told.pid == pid:
        status.end(run_dir, "failed", reason)
        reason = (status.read(run_dir) or told).reason or reason
    elif not status.is_held(run_dir):  # it ended before it said anything
        status.write(run_dir, status.Status("failed", reason, ended=status.now()))
    raise JobFailed(reason)


def _score(run_dir: Path) -> float | None:
    """The best validation score of a run that is done; None where there is none, or where it was pruned."""
    try:
        score = json.loads((run_dir / RESULTS_FILE).read_text(encoding="utf-8")).get("val_score")
    except OSError:
        return None
    return None if score is None else float(score)


def _wait_until_free(run_dir: Path) -> None:
    told = False
    while status.is_held(run_dir):
        if not told:
            print(f"{run_dir} is in use by another process; waiting for its end", flush=True)
            told = True
        time.sleep(1.0)

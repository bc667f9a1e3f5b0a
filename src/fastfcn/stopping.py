"""What ends with a run that a signal has ended: the processes that Lightning has started, and its Slurm job."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

#: Processes that Lightning has started, when its observer no longer watches them.
_ENDING: list[subprocess.Popen[bytes]] = []

#: Seconds that they are given.
_GRACE = 20.0


def end_processes(trainer: pl.Trainer) -> None:
    """See that the processes that Lightning has started for a run end with the first one, that a signal has ended."""
    started = take_from_the_observer(trainer)
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in started or _ENDING:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        if process.poll() is None:
            process.kill()


def take_from_the_observer(trainer: pl.Trainer) -> list[subprocess.Popen[bytes]]:
    """Take the processes that Lightning has started from its observer.

    It kills all processes as soon as one has ended with another exit code than 0.
    """
    started = getattr(trainer.strategy.launcher, "procs", [])
    taken = list(started)
    _ENDING.extend(taken)
    started.clear()
    return taken


def queue_again(trainer: pl.Trainer) -> None:
    """Have Slurm queue this job again, as Lightning does at SIGUSR1; at SIGTERM the cluster decides."""
    environment = trainer._accelerator_connector.cluster_environment
    if not (isinstance(environment, SLURMEnvironment) and environment.auto_requeue):
        return
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
        print(f"Slurm has queued job {job} again", flush=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"scontrol did not queue job {job} again ({error}): do it by hand, with resume=auto", flush=True)

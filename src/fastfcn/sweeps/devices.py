"""Devices for jobs that run side by side: each GPU belongs to one job at a time, each core to one job's threads."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from fastfcn.errors import UserError

#: Seconds between two looks for a free GPU.
PATIENCE = 0.5


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them; none where there is no driver.

    The driver's own program is asked, since importing torch takes seconds in each worker.
    """
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    # Parts of a GPU (MIG) are devices of their own, below the line of their GPU.
    parts = re.findall(r"^\s+MIG .*UUID: ([\w-]+)", done.stdout, re.MULTILINE)
    return parts or [str(index) for index in range(len(re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE)))]


def jobs_at_once(gpus: Sequence[str], per_job: int) -> int:
    """How many jobs the machine holds: one to so many GPUs; without a GPU one to each two cores, at least two."""
    if gpus:
        return max(1, len(gpus) // per_job)
    cores = core_count()
    return min(cores, max(2, cores // 2))


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def dealt(count: int, gpus: Sequence[str], *, folder: Path | None = None) -> Iterator[tuple[str, ...]]:
    """Hold so many of the GPUs, waiting until they are free.

    The system gives them back when the process dies. Sweeps of the same user on this machine, also of other calls,
    deal from the same locks.

    Args:
        count: how many.
        gpus: ids of those that may be taken.
        folder: where the locks are; None is a folder of the user below the system's temporary one.

    Raises:
        UserError: there are not so many.
    """
    if count > len(gpus):
        raise UserError(f"trainer.devices={count}: each job wants so many GPUs and there are {len(gpus)}: lower it.")
    folder = folder or Path(tempfile.gettempdir(), f"fastfcn-{getpass.getuser()}")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.ExitStack() as stack:
            taken: list[str] = []
            # One looks at a time: two jobs that each held half of what they want would wait for ever.
            with FileLock(folder / "dealing.lock"):
                for gpu in gpus:
                    if len(taken) < count and _take(stack, folder / f"gpu-{gpu}.lock"):
                        taken.append(gpu)
            if len(taken) == count:
                yield tuple(taken)
                return
        time.sleep(PATIENCE)


def _take(stack: contextlib.ExitStack, path: Path) -> bool:
    try:
        stack.enter_context(FileLock(path).acquire(timeout=0))
    except Timeout:
        return False
    return True

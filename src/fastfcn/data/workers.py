"""How the loader's worker processes begin, and how they end."""

from __future__ import annotations

import signal
import weakref
from multiprocessing import util
from typing import Any

import cv2

#: Iterators whose worker processes have not ended yet, as far as somebody still holds them.
_AT_WORK: weakref.WeakSet[Any] = weakref.WeakSet()


def begin(worker_id: int) -> None:
    """Keep a worker process on one core: the workers are the parallelism (torch does the same for its own threads).

    The signals are left to the parent that a terminal, and Slurm, send to every process of a run that is to end:
    workers that ended at once would take the batches with them that the parent waits for. torch ends its workers by
    other means, and by SIGTERM where these fail: the second one is obeyed. Python's own end sends one, and then waits
    without limit: `_end` comes before it.
    """
    cv2.setNumThreads(0)
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def watch(iterator: Any) -> None:
    """See that the workers of a loader's iterator end with this process."""
    _AT_WORK.add(iterator)


def _end() -> None:
    """End the workers of iterators that something, as an exception's traceback, holds when the process ends."""
    for iterator in list(_AT_WORK):
        iterator._shutdown_workers()


util.Finalize(None, _end, exitpriority=1)  # earlier than multiprocessing waits for its children

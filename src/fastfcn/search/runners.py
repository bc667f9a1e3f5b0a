"""How trials run: side by side in slots of this machine, or batch by batch through a launcher."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from fastfcn import status
from fastfcn.cli import explain
from fastfcn.sweeps.jobs import Job
from fastfcn.sweeps.process import JobFailed


class Runner(Protocol):
    """Runs jobs, and says which have ended; how is read from their directories."""

    @property
    def count(self) -> int:
        """How many may run at the same time."""

    def begin(self, job: Job) -> None:
        """Begin a job."""

    def wait(self, seconds: float) -> Sequence[Job]:
        """The jobs that have ended since the last call, at the latest after so many seconds; maybe none."""


class Slots:
    """Each job in a thread that waits for its process: whichever ends first makes room for the next.

    A batch would wait for its longest trial while those that were pruned leave their devices idle.

    Args:
        count: of jobs that may run at the same time.
        start: runs a job to its end.
    """

    def __init__(self, count: int, start: Callable[[Job], object]) -> None:
        self.count = count
        self._start = start
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()

    def begin(self, job: Job) -> None:
        """Begin a job; the system ends its process with the thread, and the thread with this process."""
        threading.Thread(target=self._run, args=(job,), daemon=True, name=job.name).start()

    def wait(self, seconds: float) -> Sequence[Job]:
        """The job that ended next."""
        try:
            return [self._ended.get(timeout=seconds)]
        except queue.Empty:
            return []

    def _run(self, job: Job) -> None:
        try:
            self._start(job)
        except JobFailed:
            pass  # its directory says why
        except Exception as error:  # before it was a process
            reason = explain(error) or f"{type(error).__name__}: {error}"
            status.write(job.directory, status.Status("failed", reason, ended=status.now()))
        finally:
            self._ended.put(job)


class Batches:
    """So many jobs at once through a launcher, which comes back when the last of them has ended.

    Args:
        count: of jobs in a batch.
        launch: runs jobs to their end; what it raises is of the launcher and ends the search.
    """

    def __init__(self, count: int, launch: Callable[[Sequence[Job]], object]) -> None:
        self.count = count
        self._launch = launch
        self._begun: list[Job] = []

    def begin(self, job: Job) -> None:
        """Put a job into the batch."""
        self._begun.append(job)

    def wait(self, seconds: float) -> Sequence[Job]:
        """Run the batch, however long it takes."""
        batch, self._begun = self._begun, []
        if batch:
            self._launch(batch)
        return batch

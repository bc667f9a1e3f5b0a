"""Independent jobs spread over processes, a few at a time, which end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from fastfcn.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def number(workers: int | None, *, jobs: int, worth: int) -> int:
    """How many processes to use: what was asked for, or by default the cores, as far as each has enough to do.

    Args:
        workers: What was asked for.
        jobs: How many there are.
        worth: Jobs to a process below which starting it takes longer than it saves.
    """
    return min(os.cpu_count() or 1, jobs // worth) if workers is None else workers


def spread(function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int) -> Iterator[Result]:
    """The same as `map(function, jobs)` in no order.

    Args:
        function: Sent to each process once, with all that is bound to it.
        jobs: Taken a few per process at a time, so that they need not all fit into memory.
        workers: Processes; up to 1: none but this one.

    Raises:
        UserError: A process was ended from outside.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    # Started afresh, the processes hold neither locks nor files of this one, whatever becomes of it.
    context = multiprocessing.get_context("spawn")
    jobs = iter(jobs)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(function,)) as pool:
        pending: set[Future[Result]] = set()
        try:
            while True:
                pending |= {pool.submit(_do, job) for job in islice(jobs, 8 * workers - len(pending))}
                if not pending:
                    return
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BrokenProcessPool as error:
            raise UserError(
                "A process of this work was ended from outside, perhaps for want of memory: run the command again; "
                "prepare.workers=1 needs the least memory."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    """Keep the function, and end this process when the one that started it is gone: a killed one cannot tell it."""
    global _function  # what a pool's initializer can set is the process's own
    _function = function
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch(sentinel: int) -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _do(job: Any) -> Any:
    return _function(job)

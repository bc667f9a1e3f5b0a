"""Progress of long work on files: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Unit = Literal["files", "bytes"]

#: Takes how much more is done; 1 by default.
Advance = Callable[..., None]


@contextmanager
def track(
    description: str, *, total: int, done: int = 0, unit: Unit = "files", seconds: float = 10.0
) -> Iterator[Advance]:
    """Show how far a piece of work is.

    Args:
        description: What is done.
        total: Files or bytes altogether.
        done: How many of them are done already.
        unit: What is counted.
        seconds: Least time between two lines where there is no terminal.

    Yields:
        A function to call with what more was done, 1 by default.
    """
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
        if unit == "bytes":
            counts = (DownloadColumn(), TransferSpeedColumn())
        columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(description, total=total, completed=done)
            yield lambda more=1: progress.update(task, advance=more)
        return
    lines = _Lines(description, total=total, done=done, unit=unit, seconds=seconds)
    yield lines.advance


class _Lines:
    """Progress as plain lines."""

    def __init__(self, description: str, *, total: int, done: int, unit: Unit, seconds: float) -> None:
        self._description, self._total, self._done, self._unit, self._seconds = description, total, done, unit, seconds
        self._started = self._told = time.monotonic()
        self._before = done

    def advance(self, more: int = 1) -> None:
        self._done += more
        now = time.monotonic()
        if now - self._told < self._seconds:
            return
        self._told = now
        pace = (self._done - self._before) / (now - self._started)
        left = f", {(self._total - self._done) / pace:.0f} s left" if pace else ""
        print(f"{self._description}: {self._count()} ({self._done / max(self._total, 1):.0%}){left}", flush=True)
        sys.stdout.flush()

    def _count(self) -> str:
        if self._unit == "files":
            return f"{self._done:,} of {self._total:,}"
        return f"{self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB"

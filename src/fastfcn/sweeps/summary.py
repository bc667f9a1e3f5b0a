"""What a sweep says: its plan before, how each job ended after."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fastfcn import status
from fastfcn.naming import RESULTS_FILE
from fastfcn.sweeps.jobs import Job, Standing, is_done


def show_plan(jobs: Sequence[Job], standings: Sequence[Standing]) -> None:
    """Print how many jobs there are and how they stand."""
    counts = Counter(standings)
    places = ", ".join(str(place) for place in dict.fromkeys(job.sweep_dir for job in jobs))
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("done", "goes on", "new") if counts[kind])
    print(f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} in {places}: {told}", flush=True)


def show_end(jobs: Sequence[Job], *, again: str) -> bool:
    """Print how each job ended.

    Args:
        jobs: all of the sweep.
        again: the command that goes on with what is not done.

    Returns:
        Whether all are done.
    """
    table = Table(box=SIMPLE)
    speed = any(job.config.get("speed") is not None for job in jobs)
    for heading in ("job", "state", *(("images per second",) if speed else ("pixAcc", "mIoU"))):
        table.add_column(heading, justify="left" if heading in ("job", "state") else "right", no_wrap=True)
    failed: list[tuple[Job, str]] = []
    for job in jobs:
        state, reason = _state(job)
        if state not in ("done", "pruned"):
            failed.append((job, reason))
        table.add_row(job.name, state, *_figures(job, speed=speed))
    console = Console()
    console.print(table)
    for job, reason in failed:
        console.print(f"{job.name}: {reason} ({job.directory})", soft_wrap=True, markup=False, highlight=False)
    if failed:
        console.print(
            f"{len(failed)} of {len(jobs)} jobs are not done; the same command goes on with them:\n  {again}",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip
    return not failed


def _state(job: Job) -> tuple[str, str]:
    told = status.read(job.directory)
    if is_done(job.directory):
        return "pruned" if told is not None and told.state == "pruned" else "done", ""
    if told is None:
        return "not run", "it was not started"
    if told.state == "running":
        return ("running", f"process {told.pid} on {told.host}") if status.is_held(job.directory) else ("killed", "")
    return told.state, told.reason or told.state


def _figures(job: Job, *, speed: bool) -> list[str]:
    try:
        results = json.loads((job.directory / RESULTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        results = {}
    if speed:
        fps = (results.get("speed") or {}).get("fps")
        return ["-" if fps is None else f"{fps:.2f}"]
    values = [(results.get("test") or {}).get(name) for name in ("pixAcc", "mIoU")]
    return ["-" if value is None else f"{100 * value:.2f}" for value in values]

"""Every run under some directories, at any depth, with the sweeps that they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fastfcn.errors import UserError
from fastfcn.naming import SWEEP_FILE
from fastfcn.report.runs import Run, Unfinished, is_run, read_run


class Job(NamedTuple):
    """A job that a sweep is made of: its name, its directory relative to the sweep's, its overrides."""

    name: str
    directory: str
    overrides: tuple[str, ...]


class Sweep(NamedTuple):
    """What a sweep was meant to run.

    Attributes:
        directories: where it lies; several where parts of it were copied from several machines.
        name: of conf/sweep; None for a free multirun.
        command: that started it.
        jobs: in order.
    """

    directories: tuple[Path, ...]
    name: str | None
    command: str
    jobs: tuple[Job, ...]


class Gathered(NamedTuple):
    """All that was found: finished runs, the others, sweeps."""

    runs: list[Run]
    unfinished: list[Unfinished]
    sweeps: list[Sweep]


def gather(source: str | Path | Sequence[str | Path] | None) -> Gathered:
    """Read every run under a directory, or under several.

    Args:
        source: directories that are run directories or hold some at any depth.

    Raises:
        UserError: a directory does not exist, no run is there, or none has come to its end.
    """
    sources = [source] if isinstance(source, str | Path) else list(source or ())
    places = [Path(each).expanduser() for each in sources]
    directories = {found.resolve(): found for place in places for found in _run_directories(place)}
    if not directories:
        raise UserError(
            f"runs={', '.join(map(str, sources)) or '[]'}: there is no run in it; name a directory that holds run "
            "directories, e.g. runs=outputs/demo."
        )
    read = [read_run(directory) for directory in directories.values()]
    runs = [run for run in read if isinstance(run, Run)]
    unfinished = [run for run in read if isinstance(run, Unfinished)]
    if not runs:
        first = unfinished[0]
        more = f" (and {len(unfinished) - 1} more are no better)" if len(unfinished) > 1 else ""
        raise UserError(f"no run can be reported on: {first.directory} {first.reason}{more}; train one to its end.")
    return Gathered(runs, unfinished, _sweeps(places, list(directories.values())))


def _run_directories(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        raise UserError(f"runs={source}: there is no such directory; a multirun leaves its own under outputs/.")
    for place, children, _ in os.walk(source):
        directory = Path(place)
        if is_run(directory):
            children.clear()  # what lies in a run directory is that run's
            yield directory
        children[:] = sorted(child for child in children if not child.startswith("."))


def _sweeps(places: Sequence[Path], runs: Sequence[Path]) -> list[Sweep]:
    """Sweeps under the named directories, or around the runs that were found."""
    homes = [*(path.parent for place in places for path in sorted(place.rglob(SWEEP_FILE))), *(r.parent for r in runs)]
    found: dict[tuple[str, tuple[Job, ...]], Sweep] = {}
    for home in {home.resolve(): home for home in homes}.values():
        if not (home / SWEEP_FILE).is_file():
            continue
        sweep = _read_sweep(home)
        known = found.get((sweep.command, sweep.jobs))
        found[sweep.command, sweep.jobs] = sweep if known is None else known._replace(
            directories=(*known.directories, home)
        )  # fmt: skip
    return list(found.values())


def _read_sweep(home: Path) -> Sweep:
    path = home / SWEEP_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(Job(job["name"], job["directory"], tuple(job["overrides"])) for job in content["jobs"])
        return Sweep((home,), content.get("sweep"), content["command"], jobs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not what a sweep writes: give it back as it was, or remove it, and the missing rows "
            "are told from Table 1's grid."
        ) from error

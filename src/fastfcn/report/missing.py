"""Which runs are missing, by the sweeps' own lists or by Table 1's grid, and the command that makes each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastfcn.report import paper
from fastfcn.report.gathering import Job, Sweep
from fastfcn.report.rows import Row, Section
from fastfcn.report.runs import Run, Unfinished

#: Overrides of the engine that starts a job, which say nothing of the run.
_OF_THE_ENGINE = ("hydra", "run_name", "resume", "paths.run_dir")


class Missing(NamedTuple):
    """A run that was meant to be.

    Attributes:
        name: what it is.
        state: how far it came: not started, or the state of its directory.
        command: makes it.
    """

    name: str
    state: str
    command: str


def missing(
    sections: Sequence[Section], *, runs: Sequence[Run], unfinished: Sequence[Unfinished], sweeps: Sequence[Sweep]
) -> list[Missing]:
    """Runs that were meant to be and have no figures.

    Args:
        sections: of the finished runs.
        runs: all finished ones, duplicates among them.
        unfinished: the others.
        sweeps: whose jobs are looked for; without a sweep the grid is that of the heads, upsamplers and seeds at
            hand or begun, as far as Table 1 has the row or a run is of it.
    """
    if sweeps:
        return [found for sweep in sweeps for found in _of_sweep(sweep, runs, unfinished)]
    return [
        found
        for section in sections
        # a run of speed alone is no training: what was begun and not finished is looked for among those
        for found in _of_grid(section, unfinished if section.protocol is not None else [])
    ]


def _of_sweep(sweep: Sweep, runs: Iterable[Run], unfinished: Sequence[Unfinished]) -> list[Missing]:
    runs = list(runs)
    there = {run.directory.resolve() for run in runs}
    made = {frozenset(_own(run.overrides)) for run in runs}
    states = {run.directory.resolve(): run.state for run in unfinished}
    found = []
    for job in sweep.jobs:
        places = [(home / job.directory).resolve() for home in sweep.directories]
        if there.isdisjoint(places) and frozenset(_own(job.overrides)) not in made:
            state = next((states[place] for place in places if place in states), "not started")
            found.append(Missing(job.name, state, _command(_of_job(sweep, job))))
    return found


def _of_job(sweep: Sweep, job: Job) -> list[str]:
    """Overrides that make one job; that of a free multirun is sent to where its sweep lies."""
    if sweep.name is not None:
        return list(job.overrides)
    return [*job.overrides, f"hydra.run.dir={sweep.directories[0] / job.directory}"]


def _of_grid(section: Section, unfinished: Sequence[Unfinished]) -> list[Missing]:
    """Holes in the grid of what is at hand or was begun; rows of several settings have a grid each."""
    grids: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    for row in section.rows:
        grids.setdefault((row.backbone, tuple(f"{key}={value}" for key, value in row.settings)), []).append(row)
    found = []
    for (backbone, settings), rows in grids.items():
        begun = {
            (own.head, own.upsample, own.seed): run
            for run in unfinished
            if (own := run.identity) and not settings and (own.data, own.backbone) == (section.data, backbone)
        }
        by_model = {(row.head, row.upsample): row for row in rows}
        models = dict.fromkeys([*by_model, *((head, upsample) for head, upsample, _ in begun)])
        heads, upsamplers = dict.fromkeys(head for head, _ in models), {upsample for _, upsample in models}
        seeds = sorted({seed for row in rows for seed in row.seeds} | {seed for _, _, seed in begun})
        wanted = [m for head in heads for m in dict.fromkeys((*paper.TABLE_1, *models)) if m[0] == head]
        for head, upsample in (model for model in wanted if model[1] in upsamplers):
            known = by_model.get((head, upsample))
            for seed in (seed for seed in seeds if known is None or seed not in known.seeds):
                there = begun.get((head, upsample, seed))
                name = f"{head} {upsample} {backbone} s{seed} on {section.data}"
                like = _like(rows, known, head=head, upsample=upsample, seed=seed)
                found.append(
                    Missing(name, there.state, _command(_own(there.overrides) if there.overrides else like))
                    if there
                    else Missing(name, "not among the runs", _command(like))
                )
    return found


def _like(rows: Sequence[Row], row: Row | None, *, head: str, upsample: str, seed: int) -> list[str]:
    """Overrides of a run that is there, with another head, upsampler and seed."""
    model = row or next((other for other in rows if other.head == head), rows[0])
    donor = model.runs[0]
    replaced = ("head", "upsample", "seed")
    # options of a head or upsampler that the other one does not have
    foreign = () if row else ("upsample.", *(("head.",) if model.head != head else ()))
    kept = [o for o in _own(donor.overrides) if _key(o) not in replaced and not o.startswith(foreign)]
    return [*kept, f"head={head}", f"upsample={upsample}", f"seed={seed}"]


def _own(overrides: Iterable[str]) -> list[str]:
    """Overrides without those by which an engine sends a job to its place."""
    return [o for o in overrides if not any(_key(o) == k or _key(o).startswith(f"{k}.") for k in _OF_THE_ENGINE)]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _command(overrides: Sequence[str]) -> str:
    return f"python src/train.py {shlex.join(overrides)}"


def where(sweep: Sweep) -> str:
    """A sweep in words: its command, and where it lies."""
    return f"`{sweep.command}` in {', '.join(f'`{Path(home)}`' for home in sweep.directories)}"

"""A search whose trials are done in no time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastfcn import status
from fastfcn.search.space import Choice, Parameter, Range, Space
from fastfcn.search.strategy import Strategy
from fastfcn.search.study import Search, Trial
from fastfcn.sweeps.jobs import Job

SPACE: dict[str, Parameter] = {"optim.lr": Range(1e-4, 0.1, log=True), "upsample": Choice(("none", "jpu"))}


def open_search(sweep_dir: Path, *, space: Space | None = None, **strategy: Any) -> Search:
    made = Strategy(**{"sampler": "random", "pruner": "none", **strategy})
    return Search(sweep_dir, space=space or SPACE, settings={"trainer.max_epochs": 3}, maximize=True, strategy=made)


def job_of(sweep_dir: Path) -> Callable[[Trial], Job]:
    def make(trial: Trial) -> Job:
        name = f"trial-{trial.number:03d}"
        return Job(name, sweep_dir, tuple(f"{key}={value}" for key, value in trial.params.items()), {})

    return make


def finish(directory: Path, score: float | None = 0.5) -> None:
    """What a run leaves that came to its end."""
    status.write(directory, status.Status("done"))
    (directory / "results.json").write_text(json.dumps({"val_score": score}))


def leave(state: status.State, reason: str | None = None) -> Callable[[Path], None]:
    """What a run leaves that did not."""
    return lambda directory: status.write(directory, status.Status(state, reason))


class FakeRunner:
    """Ends one job at a call, the oldest first, in the way that the script has for it; done where it has none.

    Args:
        count: of jobs at the same time.
        script: what the first, second, ... job to end leaves behind; an exception is raised instead.
    """

    def __init__(self, count: int = 1, script: Sequence[Callable[[Path], None] | BaseException] = ()) -> None:
        self.count = count
        self.script = deque(script)
        self.begun: list[Job] = []
        self.running: deque[Job] = deque()
        self.most = 0

    def begin(self, job: Job) -> None:
        self.begun.append(job)
        self.running.append(job)
        self.most = max(self.most, len(self.running))

    def wait(self, seconds: float) -> Sequence[Job]:
        act = self.script.popleft() if self.script else finish
        if isinstance(act, BaseException):
            raise act
        job = self.running.popleft()
        act(job.directory)
        return [job]

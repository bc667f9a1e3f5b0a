"""Asks for trials, has them run and tells how they ended, until the budget is spent."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fastfcn import status
from fastfcn.cli import explain
from fastfcn.errors import UserError
from fastfcn.naming import RESULTS_FILE
from fastfcn.search.runners import Runner
from fastfcn.sweeps.jobs import Job
from fastfcn.sweeps.process import GRACE, KILLED

if TYPE_CHECKING:
    from fastfcn.search.study import Search, Trial

#: Seconds between two notes of the time spent: what a kill may lose of it.
NOTE = 60.0

#: How often a trial is begun in one call if it is killed.
TRIES = 2


class Budget(NamedTuple):
    """What a search may take, over all of its calls.

    Attributes:
        trials: how many; None for any number.
        hours: of wall-clock time, without that between two calls; None for any time.
    """

    trials: int | None = None
    hours: float | None = None

    def check(self) -> None:
        """Refuse what is no budget.

        Raises:
            UserError: there is none, or it is not above zero.
        """
        trials, hours = self
        if trials is None and hours is None:
            raise UserError("a search needs a budget: give hydra.sweeper.trials=20, hydra.sweeper.hours=8, or both.")
        if trials is not None and (isinstance(trials, bool) or not isinstance(trials, int) or trials < 1):
            raise UserError(f"hydra.sweeper.trials={trials}: give a whole number from 1 on, or null.")
        if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int | float) or not hours > 0):
            raise UserError(f"hydra.sweeper.hours={hours}: give a number above 0, or null.")


class Outcome(NamedTuple):
    """How a trial stands by its directory.

    Attributes:
        state: ``killed`` also where its process was never seen, or where a signal told it to end.
        score: of a trial that is done.
        reason: of a failure or a pruning.
    """

    state: Literal["done", "pruned", "failed", "interrupted", "killed"]
    score: float | None = None
    reason: str | None = None


def outcome(directory: Path) -> Outcome:
    """Read how a trial stands from its directory."""
    try:
        score = json.loads((directory / RESULTS_FILE).read_text(encoding="utf-8"))["val_score"]
    except (OSError, ValueError, KeyError, TypeError):
        return _without_results(directory)
    if score is None:
        return Outcome("failed", reason="it has no val/score: keep callbacks.best, which chooses the best checkpoint")
    if not math.isfinite(score):
        return Outcome("failed", reason=f"its val/score is {score}")
    return Outcome("done", score=float(score))


class Driver:
    """Runs a search until its budget is spent.

    Args:
        search: the study.
        budget: over all calls.
        max_failures: so many in a row end the search.
        begun: ``time.monotonic`` at the beginning of this call; None is now.
    """

    def __init__(self, search: Search, budget: Budget, *, max_failures: int, begun: float | None = None) -> None:
        self.search = search
        self.budget = budget
        self.max_failures = max_failures
        #: Why the search ended before its budget; None where it did not.
        self.stopped: str | None = None
        self._before = search.seconds
        self._begun = time.monotonic() if begun is None else begun
        self._running: dict[str, int] = {}
        self._tries: Counter[int] = Counter()
        self._in_a_row = 0

    @property
    def seconds(self) -> float:
        """Wall-clock time of all calls."""
        return self._before + time.monotonic() - self._begun

    @property
    def time_is_up(self) -> bool:
        """Whether the hours are spent."""
        return self.budget.hours is not None and self.seconds >= 3600 * self.budget.hours

    @property
    def deadline(self) -> float | None:
        """When they will be, by ``time.monotonic``."""
        return None if self.budget.hours is None else self._begun + 3600 * self.budget.hours - self._before

    def run(self, runner: Runner, make: Callable[[Trial], Job]) -> None:
        """Go on with what was begun, then ask for new trials.

        Args:
            runner: runs the trials.
            make: the job of a trial; what it raises of a user's mistake is the trial's failure.
        """
        left = deque(trial.number for trial in self.search.trials() if trial.state == "running")
        try:
            while True:
                while len(self._running) < runner.count and (job := self._next(left, make)) is not None:
                    runner.begin(job)
                if not self._running:
                    return
                ended = self._wait(runner)
                self.search.keep_seconds(self.seconds)
                for job in ended:
                    self._settle(job, left)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", flush=True)
            self._let_end(runner)
            raise
        finally:
            self.search.keep_seconds(self.seconds)

    def _next(self, left: deque[int], make: Callable[[Trial], Job]) -> Job | None:
        """The next job: of a trial that was begun, else of a new one; None where no more is to begin now."""
        while not self.stopped and not self.time_is_up:
            if left:
                trial = self.search.resume(left.popleft())
            elif self.budget.trials is None or len(self.search.trials()) < self.budget.trials:
                trial = self.search.ask()
            else:
                return None
            try:
                job = make(trial)
            except Exception as error:
                if (sentence := explain(error)) is None:
                    raise
                self._tell(trial.number, Outcome("failed", reason=sentence))
                continue
            self.search.name(trial.number, job.name)
            # The call before may have been killed between a trial's end and its telling.
            if not self._tries[trial.number] and self._is_end(found := outcome(job.directory)):
                self._tell(trial.number, found)
                continue
            self._tries[trial.number] += 1
            self._running[job.name] = trial.number
            return job
        return None

    def _wait(self, runner: Runner) -> Sequence[Job]:
        try:
            return runner.wait(NOTE)
        except Exception as error:  # of the launcher or its cluster: those of the jobs are kept in their directories
            self.stopped = f"the launcher stopped: {type(error).__name__}: {error}"
            self._running.clear()
            return ()

    def _settle(self, job: Job, left: deque[int]) -> None:
        number = self._running.pop(job.name)
        found = outcome(job.directory)
        if self._is_end(found):
            self._tell(number, found)
        elif self.time_is_up:
            print(f"stopped {job.name}: the time is up", flush=True)
        elif found.state == "interrupted":
            self.stopped = self.stopped or f"{job.name} was interrupted"
        elif self._tries[number] < TRIES:
            print(f"killed  {job.name}; it goes on", flush=True)
            left.append(number)
        else:
            print(f"killed  {job.name} again", flush=True)
            self._count_failure(found.reason or "killed")

    @staticmethod
    def _is_end(found: Outcome) -> bool:
        return found.state in ("done", "pruned", "failed")

    def _tell(self, number: int, found: Outcome) -> None:
        assert found.state in ("done", "pruned", "failed")
        self.search.tell(number, found.state, score=found.score, reason=found.reason)
        about = f"{found.score:.4f}" if found.score is not None else found.reason or ""
        print(f"trial {number} {found.state}: {about}", flush=True)
        if found.state == "failed":
            self._count_failure(found.reason or "failed")
        else:
            self._in_a_row = 0

    def _count_failure(self, reason: str) -> None:
        self._in_a_row += 1
        if self._in_a_row >= self.max_failures and not self.stopped:
            self.stopped = (
                f"{self._in_a_row} trials in a row have failed (hydra.sweeper.max_failures={self.max_failures}), the "
                f"last one: {reason}"
            )

    def _let_end(self, runner: Runner) -> None:
        """After Ctrl-C, which trials of the same terminal have got too: a while to end in order."""
        until = time.monotonic() + GRACE
        while self._running:
            ended = runner.wait(max(0.0, until - time.monotonic()))
            if not ended:
                return
            for job in ended:
                self._running.pop(job.name, None)


def _without_results(directory: Path) -> Outcome:
    told = status.read(directory)
    if told is None or told.state == "running" or told.state == "done":
        return Outcome("killed")
    if told.state == "preempted" or (told.state == "failed" and (told.reason or "").startswith(KILLED)):
        return Outcome("killed", reason=told.reason)
    return Outcome(told.state, reason=told.reason)

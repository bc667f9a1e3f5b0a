"""Asking and telling, with trials that take no time."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastfcn.errors import UserError
from fastfcn.search.driver import Budget, Driver
from fastfcn.search.runners import Batches, Runner, Slots
from fastfcn.sweeps.jobs import Job
from fastfcn.sweeps.process import JobFailed
from tests.search.fakes import FakeRunner, finish, job_of, leave, open_search

KILLED = leave("failed", "killed by SIGKILL")
DIVERGED = leave("failed", "The training loss is nan")


def run(sweep_dir: Path, runner: Runner, *, trials: int = 4, max_failures: int = 5) -> Driver:
    """One call of a search."""
    driver = Driver(open_search(sweep_dir), Budget(trials), max_failures=max_failures)
    driver.run(runner, job_of(sweep_dir))
    return driver


def states(sweep_dir: Path) -> list[str]:
    return [trial.state for trial in open_search(sweep_dir).trials()]


def test_a_search_takes_its_budget_and_a_second_call_none(tmp_path: Path) -> None:
    scores = [0.2, 0.5, 0.1, 0.3]
    driver = run(tmp_path, FakeRunner(script=[functools.partial(finish, score=score) for score in scores]))
    assert driver.stopped is None
    assert [trial.score for trial in driver.search.trials()] == scores
    again = FakeRunner()
    run(tmp_path, again)
    assert again.begun == []
    run(tmp_path, again, trials=6)
    assert [job.name for job in again.begun] == ["trial-004", "trial-005"]


def test_no_more_run_at_once_than_there_is_room_or_budget_for(tmp_path: Path) -> None:
    runner = FakeRunner(count=3)
    run(tmp_path, runner, trials=5)
    assert (runner.most, len(runner.begun)) == (3, 5)


@pytest.mark.parametrize("ended", [KILLED, leave("preempted", "SIGTERM after step 3")])
def test_a_killed_trial_goes_on_with_the_same_values(ended: Callable[[Path], None], tmp_path: Path) -> None:
    runner = FakeRunner(script=[finish, ended])
    run(tmp_path, runner)
    names = [job.name for job in runner.begun]
    assert names == ["trial-000", "trial-001", "trial-001", "trial-002", "trial-003"]
    assert runner.begun[1].overrides == runner.begun[2].overrides
    assert states(tmp_path) == ["done"] * 4


def test_a_trial_that_is_killed_again_is_left_for_the_next_call(tmp_path: Path) -> None:
    first = FakeRunner(script=[KILLED, KILLED])
    run(tmp_path, first, trials=2)
    assert states(tmp_path) == ["running", "done"]
    second = FakeRunner()
    run(tmp_path, second, trials=2)
    assert [job.overrides for job in second.begun] == [first.begun[0].overrides]
    assert states(tmp_path) == ["done", "done"]


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = FakeRunner(count=2, script=[finish, SystemExit()])
    with pytest.raises(SystemExit):
        run(killed, first)
    assert states(killed) == ["done", "running", "running"]
    finish(killed / "trial-001", 0.7)  # it came to its end, and nobody was there to tell
    leave("running")(killed / "trial-002")
    second = FakeRunner()
    driver = run(killed, second)
    assert [job.name for job in second.begun] == ["trial-002", "trial-003"]
    assert [trial.state for trial in driver.search.trials()] == ["done"] * 4
    assert driver.search.trials()[1].score == 0.7
    # The sampler is not set back to its beginning by the second call.
    undisturbed = run(whole, FakeRunner()).search.trials()
    assert [trial.params for trial in driver.search.trials()] == [trial.params for trial in undisturbed]
    assert len({trial.params["optim.lr"] for trial in undisturbed}) == 4


def test_failures_are_told_and_do_not_stop_the_search(tmp_path: Path) -> None:
    runner = FakeRunner(script=[DIVERGED, leave("pruned", "poor"), functools.partial(finish, score=None)])
    driver = run(tmp_path, runner)
    assert states(tmp_path) == ["failed", "pruned", "failed", "done"]
    reasons = [trial.reason for trial in driver.search.trials()]
    assert reasons[:2] == ["The training loss is nan", "poor"]
    assert "callbacks.best" in str(reasons[2])
    assert driver.stopped is None


def test_failures_in_a_row_stop_the_search(tmp_path: Path) -> None:
    runner = FakeRunner(script=[DIVERGED, finish, DIVERGED, DIVERGED])
    driver = run(tmp_path, runner, trials=9, max_failures=2)
    assert len(runner.begun) == 4
    assert driver.stopped is not None
    assert "2 trials in a row" in driver.stopped
    assert "The training loss is nan" in driver.stopped
    more = FakeRunner()
    run(tmp_path, more, trials=9, max_failures=2)  # what was wrong may be mended: the count begins anew
    assert len(more.begun) == 5


def test_a_trial_that_does_not_compose_has_failed(tmp_path: Path) -> None:
    def make(trial: object) -> Job:
        raise UserError("no such thing")

    driver = Driver(open_search(tmp_path), Budget(2), max_failures=5)
    driver.run(FakeRunner(), make)
    assert [trial.reason for trial in driver.search.trials()] == ["no such thing"] * 2


def test_an_interrupted_trial_ends_the_call_and_goes_on_in_the_next(tmp_path: Path) -> None:
    driver = run(tmp_path, FakeRunner(script=[leave("interrupted")]), trials=2)
    assert "trial-000 was interrupted" in str(driver.stopped)
    assert states(tmp_path) == ["running"]
    run(tmp_path, FakeRunner(), trials=2)
    assert states(tmp_path) == ["done", "done"]


def test_after_ctrl_c_trials_are_given_a_while_and_go_on_in_the_next_call(tmp_path: Path) -> None:
    first = FakeRunner(count=2, script=[KeyboardInterrupt(), leave("interrupted"), leave("interrupted")])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first, trials=2)
    assert not first.running  # they were waited for
    assert states(tmp_path) == ["running", "running"]
    second = FakeRunner()
    run(tmp_path, second, trials=2)
    assert [job.overrides for job in second.begun] == [job.overrides for job in first.begun]


def test_a_launcher_that_fails_stops_the_search(tmp_path: Path) -> None:
    driver = run(tmp_path, FakeRunner(script=[OSError("no sbatch")]))
    assert driver.stopped == "the launcher stopped: OSError: no sbatch"
    assert states(tmp_path) == ["running"]


def test_hours_count_over_all_calls(tmp_path: Path) -> None:
    budget = Budget(trials=None, hours=1.0)
    first = Driver(open_search(tmp_path), budget, max_failures=5, begun=time.monotonic() - 1800)
    first.run(_until(first, 3), job_of(tmp_path))
    assert open_search(tmp_path).seconds == pytest.approx(3600, abs=60)
    second = FakeRunner()
    Driver(open_search(tmp_path), budget, max_failures=5).run(second, job_of(tmp_path))
    assert second.begun == []
    Driver(open_search(tmp_path), Budget(4, 2.0), max_failures=5).run(second, job_of(tmp_path))
    assert states(tmp_path) == ["done"] * 4


def _until(driver: Driver, trials: int) -> FakeRunner:
    """A runner with whose last of so many trials the hour is over."""

    class Runner(FakeRunner):
        def wait(self, seconds: float) -> list[Job]:
            if len(self.begun) == trials:
                driver._begun -= 1800
            return list(super().wait(seconds))

    return Runner()


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(), "needs a budget"),
        (Budget(0), "hydra.sweeper.trials=0"),
        (Budget(None, -1.0), "hydra.sweeper.hours=-1.0"),
        (Budget(2, True), "hydra.sweeper.hours=True"),
    ],
)
def test_what_is_no_budget(budget: Budget, words: str) -> None:
    with pytest.raises(UserError, match=words):
        budget.check()


def test_slots_go_to_the_next_trial_as_soon_as_one_has_ended(tmp_path: Path) -> None:
    hold = threading.Event()
    ended: list[str] = []

    def start(job: Job) -> None:
        if job.name == "trial-000":
            assert hold.wait(30)
        ended.append(job.name)
        if job.name == "trial-003":
            hold.set()
        if job.name == "trial-001":
            DIVERGED(job.directory)
            raise JobFailed("The training loss is nan")
        if job.name == "trial-002":
            raise UserError("trainer.devices=4: each job wants so many GPUs and there are 1: lower it.")
        finish(job.directory)

    run(tmp_path, Slots(2, start))
    assert ended == ["trial-001", "trial-002", "trial-003", "trial-000"]
    assert states(tmp_path) == ["done", "failed", "failed", "done"]
    assert "lower it" in str(open_search(tmp_path).trials()[2].reason)


def test_batches_go_through_the_launcher(tmp_path: Path) -> None:
    batches: list[list[str]] = []

    def launch(jobs: list[Job]) -> None:
        batches.append([job.name for job in jobs])
        for job in jobs:
            finish(job.directory)

    run(tmp_path, Batches(3, launch))  # type: ignore[arg-type]
    assert batches == [["trial-000", "trial-001", "trial-002"], ["trial-003"]]

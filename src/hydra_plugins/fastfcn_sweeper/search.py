"""The sweeper of a search: trials whose settings Optuna chooses, each a job like those of a table."""

from __future__ import annotations

import contextlib
import inspect
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from fastfcn import naming
from fastfcn.errors import UserError
from fastfcn.search.driver import Budget, Driver
from fastfcn.search.runners import Batches, Runner, Slots
from fastfcn.search.space import Space, extremes
from fastfcn.sweeps.jobs import Job, flat, is_free, quoted, save
from hydra_plugins.fastfcn_sweeper.best import BEST_FILE, write_best
from hydra_plugins.fastfcn_sweeper.job import in_own_process
from hydra_plugins.fastfcn_sweeper.space import read_space
from hydra_plugins.fastfcn_sweeper.sweeper import ResumableSweeper, own_command, refuse_torchrun

if TYPE_CHECKING:
    from fastfcn.search.study import Trial

LOCK_FILE = ".search.lock"

_DIRECTIONS = {"max": True, "maximize": True, "min": False, "minimize": False}


class SearchSweeper(ResumableSweeper):
    """Searches for the settings with the best validation score.

    Trials that have ended are not run again, those that were killed go on with the same settings, one that fails does
    not stop the search; the exit code is 0 where none failed and nothing ended the search before its budget.

    Args:
        space: key -> what it may be.
        direction: ``max`` or ``min``.
        trials: budget over all calls; None for any number.
        hours: budget over all calls; None for any time.
        sampler: see ``fastfcn.search.strategy.Strategy``, as the four that follow.
        seed: of the sampler.
        pruner: which trials end early.
        prune_after: epochs that every trial is given.
        startup_trials: before anything is learnt from them.
        max_failures: so many in a row end the search.
        batch: trials at once where the launcher is neither basic nor joblib.
        rows: of a table, of which a search has none.
        params: as ``rows``.
    """

    def __init__(
        self,
        *,
        space: Mapping[str, Any],
        direction: str,
        trials: int | None,
        hours: float | None,
        sampler: str,
        seed: int,
        pruner: str,
        prune_after: int,
        startup_trials: int,
        max_failures: int,
        batch: int,
        rows: Sequence[Mapping[str, Any]] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if rows or params:
            raise UserError("hydra.sweeper.rows and params make a table: a search has hydra.sweeper.space instead.")
        if direction not in _DIRECTIONS:
            raise UserError(f"hydra.sweeper.direction={direction}: choose max or min.")
        for name, value in (("max_failures", max_failures), ("batch", batch)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"hydra.sweeper.{name}={value}: give a whole number from 1 on.")
        self.space = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.create(dict(space)), resolve=True))
        self.maximize = _DIRECTIONS[direction]
        self.budget = Budget(trials, hours)
        self.budget.check()
        self.strategy: dict[str, Any] = {
            "sampler": sampler, "seed": seed, "pruner": pruner, "prune_after": prune_after,
            "startup_trials": startup_trials,
        }  # fmt: skip
        self.max_failures = max_failures
        self.batch = batch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.script = inspect.getfile(inspect.unwrap(task_function))

    def sweep(self, arguments: list[str]) -> None:
        """Go on with the search; exit with 1 where not all of it is done."""
        begun = time.monotonic()
        refuse_torchrun()
        try:
            from fastfcn.search import report, strategy, study
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "optuna":
                raise
            raise UserError("sweep=search needs Optuna: run `pip install -e .[search]`.") from error
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        space, fixed = read_space(self.space, arguments, parser)
        epochs = self._first(space, fixed).trainer.get("max_epochs")
        chosen = strategy.Strategy(**self.strategy, epochs=epochs if isinstance(epochs, int) and epochs > 0 else None)
        chosen.check()
        sweep_dir, settings = self._checked(space, fixed)
        with _held(sweep_dir):
            search = study.Search(sweep_dir, space=space, settings=settings, maximize=self.maximize, strategy=chosen)
            report.show_plan(search, self.budget, sweep_dir=sweep_dir)
            driver = Driver(search, self.budget, max_failures=self.max_failures, begun=begun)
            runner = self._runner(self._first(space, fixed).trainer, sweep_dir, deadline=driver.deadline)
            try:
                driver.run(runner, lambda trial: self._trial(trial, fixed, sweep_dir))
            finally:
                report.write_csv(search, sweep_dir / report.CSV_FILE)
            order = report.ranked(search)
            best = self._best(order[0], fixed, sweep_dir) if order else ()
            again = self._again(own_command(), sweep_dir)
            done = report.show_end(
                search, self.budget, sweep_dir=sweep_dir, stopped=driver.stopped, best=best, again=again
            )
        if not done:
            sys.exit(1)

    def _first(self, space: Space, fixed: Sequence[str]) -> DictConfig:
        """The configuration with the first value of everything that varies."""
        return self._compose([*fixed, *(f"{key}={extremes(parameter)[0]}" for key, parameter in space.items())])

    def _checked(self, space: Space, fixed: Sequence[str]) -> tuple[Path, dict[str, Any]]:
        """Compose with every value that a choice has, and both ends of every range: what is wrong shows now.

        Returns:
            The directory of the search, and what its trials have in common.
        """
        first = {key: extremes(parameter)[0] for key, parameter in space.items()}
        others = [{**first, key: value} for key, parameter in space.items() for value in extremes(parameter)[1:]]
        for values in (*others, first):
            config = self._compose([*fixed, *(f"{key}={value}" for key, value in values.items())])
            sweep_dir = Path(OmegaConf.select(config, "hydra.sweep.dir")).absolute()
            common = flat(self._finished(config, fixed, name="trial", sweep_dir=sweep_dir).config)
        return sweep_dir, {key: value for key, value in common.items() if not is_free(key)}

    def _overrides(self, trial: Trial, fixed: Sequence[str]) -> list[str]:
        return [*fixed, *(f"{key}={value}" for key, value in trial.params.items())]

    def _trial(self, trial: Trial, fixed: Sequence[str], sweep_dir: Path) -> Job:
        """The job of a trial, noted in the sweep's list."""
        overrides = [*self._overrides(trial, fixed), f"callbacks.report_to_study.trial={trial.number}"]
        config = self._compose([item for item in overrides if not item.startswith("run_name=")])
        name = f"trial-{trial.number:03d}-{naming.name_of(config, config.hydra.runtime.choices)}"
        job = self._finished(config, overrides, name=name, sweep_dir=sweep_dir)
        save([job], sweep=self.sweep_name or None, command=own_command())
        return job

    def _plain(self, overrides: Sequence[str]) -> DictConfig:
        """The script's configuration without this sweep."""
        name = self.config.hydra.job.config_name
        return self.hydra_context.config_loader.load_configuration(name, list(overrides), run_mode=RunMode.RUN)

    def _runner(self, trainer: DictConfig, sweep_dir: Path, *, deadline: float | None) -> Runner:
        launcher = self.config.hydra.launcher
        target = str(launcher.get("_target_", ""))

        def start(job: Job) -> object:
            return in_own_process(
                self.script, job.overrides, trainer=trainer, hydra=self.config.hydra, run_dir=job.directory,
                deadline=deadline,
            )  # fmt: skip

        def launch(jobs: Sequence[Job]) -> object:
            places = f"hydra.sweep.dir={quoted(sweep_dir)}"  # data=... may vary, the place does not
            return self.launcher.launch(
                [[*job.overrides, places, f"hydra.sweep.subdir={quoted(job.name)}"] for job in jobs],
                initial_job_idx=0,
            )

        if target.endswith("BasicLauncher"):
            return Slots(1, start)
        return Slots(int(launcher.n_jobs), start) if target.endswith("JoblibLauncher") else Batches(self.batch, launch)

    def _best(self, trial: Trial, fixed: Sequence[str], sweep_dir: Path) -> Sequence[str]:
        """Write the best trial's configuration; gives the lines that say how to use it."""
        place = Path(os.path.relpath(sweep_dir)) if sweep_dir.is_relative_to(Path.cwd()) else sweep_dir
        use = f"python src/{Path(self.script).name} --config-dir {shlex.quote(str(place))} --config-name best"
        title = f"trial {trial.number} of a search, score {trial.score:.4f}, {trial.name}: {use}"
        config = self._compose(self._overrides(trial, fixed))
        left_out = write_best(sweep_dir / BEST_FILE, config, self._plain, title=title)
        return [f"the best trial anew, {sweep_dir / BEST_FILE}:", f"  {use} {left_out}".rstrip()]


@contextlib.contextmanager
def _held(sweep_dir: Path) -> Iterator[None]:
    """Hold a search against a second call at the same time."""
    sweep_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(sweep_dir / LOCK_FILE).acquire(timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"a search is going on in {sweep_dir}: wait for its end, or choose another place by hydra.sweep.dir=..."
        ) from error

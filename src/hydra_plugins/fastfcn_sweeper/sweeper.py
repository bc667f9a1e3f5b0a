"""The sweeper: the rows of a table times all that the command line varies, each job once over all calls."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fastfcn import cli, naming, status
from fastfcn.errors import UserError
from fastfcn.sweeps import devices, summary
from fastfcn.sweeps.jobs import Job, combine, is_done, quoted, save, standing
from fastfcn.sweeps.process import JobFailed
from hydra_plugins.fastfcn_sweeper.job import gpus_per_job

#: What a run is named by already, or what decides it.
_NAMED = ("head", "upsample", "backbone", "backbone.name", "output_stride", "seed")

#: What stands in the name only where the rest does not tell two jobs apart.
_NAMED_IF_OWED = ("data", "experiment")


class ResumableSweeper(Sweeper):
    """Runs each job of a table once.

    Jobs that are done are not run again, jobs that were killed go on, a job that fails does not stop the others; the
    exit code is 0 where all are done.

    Args:
        rows: of the table, key -> value each; what the command line says of the same key is a filter on them.
        params: further keys with the values that they take, ``seed: 0,1,2``; the command line goes before them.
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]] | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        self.rows = [dict(row) for row in rows or ()]
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives; a launcher that was not told how many jobs run at once gets as many as fit."""
        self.hydra_context: HydraContext = hydra_context
        self.config: DictConfig = config
        self.sweep_name = str(config.hydra.runtime.choices.get("sweep") or "")
        HydraConfig.instance().set_config(config)  # the place of a sweep, which launchers ask for, is named by its data
        launcher = config.hydra.launcher
        if launcher.get("n_jobs") == -1:  # joblib's own default, as many as there are cores, suits no training
            gpus = devices.visible_gpus()
            per_job = gpus_per_job(config.trainer, len(gpus))
            with read_write(launcher):
                launcher.n_jobs = devices.jobs_at_once(gpus if per_job else (), per_job)
        if str(launcher.get("_target_")).endswith("SlurmLauncher") and not isinstance(config.trainer.devices, int):
            raise UserError(
                f"trainer.devices={config.trainer.devices}: Slurm is asked for them before a node is known, say how "
                "many: trainer.devices=4."
            )
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run what is not done of the jobs, tell how all of them ended, exit with 1 where one is not done."""
        refuse_torchrun()
        all_jobs = self.jobs(arguments)
        standings = [standing(job, _saved(job.directory)) for job in all_jobs]
        command = own_command()
        save(all_jobs, sweep=self.sweep_name or None, command=command)
        summary.show_plan(all_jobs, standings)
        left = [job for job, kind in zip(all_jobs, standings, strict=True) if kind != "done"]
        if left:
            self._launch(left)
        if not summary.show_end(all_jobs, again=self._again(command, all_jobs[0].sweep_dir)):
            sys.exit(1)

    def jobs(self, arguments: Sequence[str]) -> list[Job]:
        """Compose every job.

        Raises:
            UserError: two jobs would share a directory, or no row is left.
        """
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([f"{key}={value}" for key, value in self.params.items()] + list(arguments))
        if any(item.key_or_group == "resume" and item.value() not in (None, "auto") for item in parsed):
            raise UserError(
                "resume=... goes on with one run, and a sweep goes on with its own by itself: leave it out, or begin "
                "its jobs with the weights of a checkpoint by init_from=..."
            )
        [values] = BasicSweeper.split_arguments(parsed, None)
        combined = combine(self.rows, values, sweep=self.sweep_name)
        swept = {item.get_key_element().lstrip("+") for item in parsed if item.is_sweep_override()}
        varied = list(dict.fromkeys([*swept, *(key for row in self.rows for key in row)]))
        extra = sorted(key for key in varied if key not in (*_NAMED, *_NAMED_IF_OWED))
        for shown in (extra, [*(key for key in _NAMED_IF_OWED if key in varied), *extra]):
            made = [self._job(overrides, shown) for overrides in combined]
            places = [job.directory for job in made]
            if len(set(places)) == len(places):
                return made
        twice = next(place for place in places if places.count(place) > 1)
        raise UserError(f"two jobs of the sweep have the directory {twice}: do not set run_name in a sweep.")

    def _job(self, overrides: Sequence[str], shown: Sequence[str]) -> Job:
        config = self._compose(overrides)
        values = dict(item.lstrip("+").split("=", 1) for item in overrides if "=" in item)
        more = [f"{key}={values[key]}" for key in shown if key in values]
        name = naming.name_of(config, config.hydra.runtime.choices, more=more)
        if Path(name).name != name:
            raise UserError(f"run_name={name}: a job's directory in the sweep's has this name, choose one without /.")
        # Of the job's own choices: data=... may be a part of the directory's name.
        sweep_dir = Path(OmegaConf.select(config, "hydra.sweep.dir")).absolute()
        return self._finished(config, overrides, name=name, sweep_dir=sweep_dir)

    @staticmethod
    def _finished(config: DictConfig, overrides: Sequence[str], *, name: str, sweep_dir: Path) -> Job:
        """The job of a configuration that is complete but for its name and place."""
        with read_write(config), read_write(config.hydra.runtime), open_dict(config):
            config.run_name = name
            config.hydra.runtime.output_dir = str(sweep_dir / name)
            HydraConfig.instance().set_config(config)
            task = config.copy()
            del task["hydra"]
        plain = cast("dict[str, Any]", OmegaConf.to_container(task, resolve=True, throw_on_missing=True))
        own = tuple(item for item in overrides if not item.startswith(("resume=", "run_name=")))
        return Job(name, sweep_dir, (*own, f"run_name={quoted(name)}", "resume=auto"), plain)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        HydraConfig.instance().set_config(config)  # interpolations ask it for the choices of groups
        return config

    def _launch(self, left: Sequence[Job]) -> None:
        try:
            share = self.config.hydra.launcher.get("n_jobs")  # each job asks its own configuration for it
            common = [] if share is None else [f"hydra.launcher.n_jobs={share}"]
            overrides = [[*job.overrides, f"hydra.sweep.subdir={quoted(job.name)}", *common] for job in left]
            for job, ended in zip(left, self.launcher.launch(overrides, initial_job_idx=0), strict=True):
                _keep_reason(job, ended)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", flush=True)
            raise
        except Exception as error:  # of the launcher or its cluster: those of the jobs are kept in their directories
            print(f"the launcher stopped: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def _again(self, command: str, sweep_dir: Path) -> str:
        """The command, with its place where that would be a new one by the time."""
        own = any(item.startswith("hydra.sweep.dir=") for item in self.config.hydra.overrides.hydra)
        return command if own or self.sweep_name else f"{command} {shlex.quote(f'hydra.sweep.dir={sweep_dir}')}"


def _keep_reason(job: Job, ended: JobReturn) -> None:
    """Keep why a job could not be started; one that was has said itself how it ended."""
    error = ended._return_value
    if not isinstance(error, Exception) or is_done(job.directory):
        return
    if not isinstance(error, JobFailed) or status.read(job.directory) is None:
        status.write(job.directory, status.Status("failed", cli.explain(error) or str(error), ended=status.now()))


def refuse_torchrun() -> None:
    """Refuse to sweep in each of several processes.

    Raises:
        UserError: this is one of several.
    """
    if max(int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")) > 1:
        raise UserError(
            "a sweep under torchrun or srun would run once in each of its processes: call it by python alone, where "
            "each job starts its own (trainer=ddp trainer.devices=...), or give them one run at a time."
        )


def own_command() -> str:
    """The command that this process was called by."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def _saved(directory: Path) -> dict[str, Any] | None:
    path = directory / "config.yaml"
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else None

"""What a script's main function is under Hydra: a run that records how it stands, or a job of a sweep."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fastfcn import signals, status
from fastfcn.errors import UserError
from fastfcn.refused import clear_away
from fastfcn.sweeps import devices, process

Main = Callable[[DictConfig], Any]


def job(script: str) -> Callable[[Main], Main]:
    """Decorate the main function of a script that sweeps call.

    In a single run it keeps ``status.json`` and holds the run directory. In a multirun, whatever the launcher, the
    script is started once more for this job alone.

    Args:
        script: its path.
    """

    def decorate(function: Main) -> Main:
        @functools.wraps(function)
        def wrapper(cfg: DictConfig) -> Any:
            hydra = HydraConfig.get()
            run_dir = Path(hydra.runtime.output_dir)
            if hydra.mode == RunMode.MULTIRUN:
                return in_own_process(
                    script, list(hydra.overrides.task), trainer=cfg.trainer, hydra=hydra, run_dir=run_dir
                )
            process.obey_sweep()
            signals.listen()
            try:
                with status.recorded(run_dir):
                    return function(cfg)
            except signals.Stopped as stopped:
                sys.exit(stopped.code)
            except SystemExit as end:
                if end.code == UserError.exit_code:
                    clear_away(run_dir)
                raise
            except status.Pruned as stopped:
                if status.first_process():
                    print(f"pruned: {stopped}", flush=True)
                return None
            finally:
                if not signals.asked():  # else they are taken to the process's end
                    signals.forget()

        return wrapper

    return decorate


def gpus_per_job(trainer: DictConfig, available: int) -> int:
    """GPUs that a training takes: its ``devices``, all where that is ``auto``, none on a CPU."""
    wanted = trainer.get("devices", 1)
    if trainer.get("accelerator") == "cpu" or not available:
        return 0
    if isinstance(wanted, int):
        return available if wanted == -1 else wanted
    return available if isinstance(wanted, str) else len(wanted)


def in_own_process(
    script: str,
    overrides: Sequence[str],
    *,
    trainer: DictConfig,
    hydra: HydraConf,
    run_dir: Path,
    deadline: float | None = None,
) -> float | None:
    """Run a job with its share of the machine, by what the launcher says of it.

    Args:
        script: its path.
        overrides: of the job.
        trainer: its configuration, which says how many GPUs it takes.
        hydra: of the sweep.
        run_dir: of the job.
        deadline: see ``process.run``.

    Raises:
        JobFailed: it left no results.
    """
    launcher = str(hydra.launcher.get("_target_", ""))
    alone = launcher.endswith("BasicLauncher")
    start = functools.partial(
        process.run,
        script,
        [*_origin(script, hydra), *overrides],
        run_dir=run_dir,
        cwd=hydra.runtime.cwd,
        log=not alone,
        deadline=deadline,
    )
    print(f"starts  {run_dir.name}", flush=True)
    if not launcher.endswith("JoblibLauncher"):
        return start()  # alone on this machine, or on a cluster, which gives each job its devices itself
    try:
        score = _with_share(start, trainer, jobs=int(hydra.launcher.n_jobs))
    except process.JobFailed as error:
        print(f"failed  {run_dir.name}: {error}", flush=True)
        raise
    print(f"done    {run_dir.name}" + ("" if score is None else f"  val/score {score:.4f}"), flush=True)
    return score


def _origin(script: str, hydra: HydraConf) -> list[str]:
    """Where the sweep's configuration comes from, if not from the script's own: a search's best.yaml, for one."""
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    named = [item for folder in folders for item in ("--config-dir", folder)]
    named += [] if hydra.job.config_name == Path(script).stem else ["--config-name", str(hydra.job.config_name)]
    return named + [item for item in hydra.overrides.hydra if item.startswith("hydra.searchpath=")]


def _with_share(start: Callable[..., float | None], trainer: DictConfig, *, jobs: int) -> float | None:
    """Start a job with its share of the machine: its GPUs, or its threads."""
    available = devices.visible_gpus()
    count = gpus_per_job(trainer, len(available))
    if not count:
        threads = max(1, devices.core_count() // (jobs if jobs > 0 else devices.core_count()))
        return start(environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))})
    if not isinstance(trainer.devices, int | str):  # these and no others, as they are numbered here
        available = [available[index] for index in trainer.devices if index < len(available)]
    with devices.dealt(count, available) as dealt:
        return start(environment={"CUDA_VISIBLE_DEVICES": ",".join(dealt)}, devices=len(dealt))

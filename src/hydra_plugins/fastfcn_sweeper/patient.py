"""submitit's launchers that wait for every job: the plugin's own stop at the first one that a cluster has killed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from fastfcn.sweeps.process import KILLED, JobFailed

#: What submitit knows under the same name for every cluster; it wants the cluster's name before the rest.
_COMMON = {item.name for item in dataclasses.fields(BaseQueueConf)}


class _Patient(BaseSubmititLauncher):  # type: ignore[misc]  # the plugin has no types
    """The plugin's launcher but for the end: a job that left no result is a failed one, and the others go on."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit the jobs as one array and wait for each of them."""
        import submitit  # Hydra imports plugins at every start

        def key(name: str) -> str:
            return name if name in _COMMON else f"{self._EXECUTOR}_{name}"

        settings = dict(self.params)
        tries = {key(name): settings.pop(name) for name in ("max_num_timeout",) if name in settings}
        executor = submitit.AutoExecutor(folder=settings.pop("submitit_folder"), cluster=self._EXECUTOR, **tries)
        executor.update_parameters(**{key(name): value for name, value in settings.items()})
        with executor.batch():
            jobs = [
                executor.submit(
                    self, list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state()
                )
                for number, overrides in enumerate(job_overrides, start=initial_job_idx)
            ]
        return [outcome(job) for job in jobs]


class SlurmLauncher(_Patient):
    """Jobs of a Slurm cluster."""

    _EXECUTOR = "slurm"


class LocalLauncher(_Patient):
    """The same on this machine, to try what Slurm would do."""

    _EXECUTOR = "local"


def outcome(job: Any) -> JobReturn:
    """How a job of submitit's ended, waiting for it."""
    from submitit.core.utils import UncompletedJobError

    try:
        ended: JobReturn = job.results()[0]
    except UncompletedJobError:
        ended = JobReturn(status=JobStatus.FAILED)
        ended.return_value = JobFailed(f"{KILLED}the cluster, without a result; see {job.paths.stderr}")
    return ended

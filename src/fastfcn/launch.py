"""What the processes that torchrun or srun starts for one run agree on before anything is imported: when it began.

Each of them composes its own configuration, and the time is a part of the run directory's name. One process, and those
that Lightning starts by itself, need no agreement.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta

#: The agreed moment, which `conf/hydra` asks for.
LAUNCH = "FASTFCN_LAUNCH"

_KEY = "fastfcn/launch"


def agree() -> None:
    """Set FASTFCN_LAUNCH to the same text in all processes of a run, also when it is started again by its launcher."""
    if LAUNCH in os.environ:
        return
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        os.environ[LAUNCH] = _by_torchruns_store()
    elif _by_srun() and ("resume=auto" in sys.argv or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1):
        # A job that is queued again keeps its number, and each srun in it its own: they find their directory by it.
        os.environ[LAUNCH] = f"slurm/{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"


def _by_srun() -> bool:
    """Whether srun has started this process, and no shell in which one command follows another."""
    return {"SLURM_PROCID", "SLURM_STEP_ID", "SLURM_JOB_ID"} <= os.environ.keys() and "SLURM_PTY_PORT" not in os.environ


def _by_torchruns_store() -> str:
    """The first process's time, through the store by which torchrun's processes find each other."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(minutes=5))
    if os.environ["RANK"] == "0" and not store.check([_KEY]):
        store.set(_KEY, f"{datetime.now():%Y-%m-%d/%H-%M-%S}")
    moment: bytes = store.get(_KEY)
    return moment.decode()

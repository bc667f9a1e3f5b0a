"""What the processes that torchrun or srun starts for one run agree on before anything is imported: when it began.

Each of them composes its own configuration, and the time is a part of the run directory's name. One process, and those
that Lightning starts by itself, need no agreement.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fastfcn.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

#: The agreed moment, which `conf/hydra` asks for.
LAUNCH = "FASTFCN_LAUNCH"

#: "1" where torchrun has started the run's processes once more, "0" where this is their first start.
AGAIN = "FASTFCN_STARTED_AGAIN"

_KEY = "fastfcn/launch"
_ASKED, _ANSWERED, _TAKEN = "fastfcn/asked/{}", "fastfcn/answered/{}", "fastfcn/taken/{}"
_PATIENCE = timedelta(minutes=5)
_POLL = 0.02  # seconds

#: The store that this process serves as long as it lives.
_served: TCPStore | None = None


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

    host, port, rank = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), int(os.environ["RANK"])
    store = TCPStore(host, port, is_master=False, timeout=_PATIENCE)
    again = rank == 0 and store.check([_KEY])
    if rank == 0 and not again:
        store.set(_KEY, f"{datetime.now():%Y-%m-%d/%H-%M-%S}")
    moment: bytes = store.get(_KEY)
    _use_a_store_of_its_own(store, rank, again=again)
    return moment.decode()


def started_again() -> bool:
    """Whether Slurm or torchrun has started this process once more after it ended, in its directory.

    torchrun's own count will not do: of several nodes only the one whose process ended counts.
    """
    counts = ("SLURM_RESTART_COUNT", AGAIN if AGAIN in os.environ else "TORCHELASTIC_RESTART_COUNT")
    return any(os.environ.get(name, "0") not in ("", "0") for name in counts)


def _use_a_store_of_its_own(store: TCPStore, rank: int, *, again: bool) -> None:
    """Let the process group meet in a new store that the first process serves, and not in torchrun's.

    torchrun keeps one store when it starts the processes again (torch 2.15, pytorch/pytorch#135712): the addresses of
    those that ended are still in it, and who reads one before it is written anew is refused there.
    """
    global _served
    if rank == 0:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # Shared: init_process_group serves the same port in this process, and is given this server.
        _served = TCPStore(os.environ["MASTER_ADDR"], 0, is_master=True, wait_for_workers=False, multi_tenant=True)
    told = tell(store, rank, int(os.environ["WORLD_SIZE"]), f"{_served.port} {again:d}" if _served else None)
    os.environ["MASTER_PORT"], os.environ[AGAIN] = told.split()
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"


def tell(store: TCPStore, rank: int, world: int, text: str | None) -> str:
    """Hand the first process's text to all others by a store in which ended processes have left their entries.

    Each process asks with a word of its own and takes the answer to that word alone; the first one goes on answering
    until each has said that it has this text.

    Args:
        store: of torchrun.
        rank: of this process.
        world: how many there are.
        text: what the first process tells; others give None.

    Raises:
        UserError: the others have not come within five minutes.
    """
    own = secrets.token_hex(8)
    waiting = set(range(1, world)) if rank == 0 else {rank}
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    if rank > 0:
        store.set(_ASKED.format(rank), own)
    while waiting:
        if rank == 0:
            waiting = {other for other in waiting if not _answer(store, other, f"{own} {text}")}
        elif (told := _answer_to(store, rank, own)) is not None:
            return told
        if time.monotonic() > deadline:
            raise UserError(
                f"process {rank} of {world} has waited {_PATIENCE.total_seconds() / 60:.0f} minutes for the others "
                "that torchrun starts; look at their messages, and that all nodes run the same command"
            )
        time.sleep(_POLL)
    return text or ""


def _answer(store: TCPStore, other: int, answer: str) -> bool:
    """Answer what this other process asks now, and say whether it has this answer."""
    if _entry(store, _TAKEN.format(other)) == answer:
        return True
    if asked := _entry(store, _ASKED.format(other)):
        store.set(_ANSWERED.format(other), f"{asked} {answer}")
    return False


def _answer_to(store: TCPStore, rank: int, asked: str) -> str | None:
    """The text told to this word, acknowledged; None as long as the entry answers an ended process or nobody."""
    word, _, answer = _entry(store, _ANSWERED.format(rank)).partition(" ")
    if word != asked:
        return None
    store.set(_TAKEN.format(rank), answer)
    return answer.partition(" ")[2]


def _entry(store: TCPStore, key: str) -> str:
    """What is written there now, "" where nothing is."""
    return store.get(key).decode() if store.check([key]) else ""

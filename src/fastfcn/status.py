"""How a run stands, kept as ``status.json`` in its directory, and a lock by which no two runs share one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from fastfcn import signals
from fastfcn.cli import explain
from fastfcn.errors import UserError
from fastfcn.whole_files import write_text

STATUS_FILE = "status.json"
LOCK_FILE = ".lock"

State = Literal["running", "done", "failed", "interrupted", "preempted", "pruned"]

#: By which a process knows that it is not the first of its run: of torchrun, Lightning's launcher and Slurm, in the
#: order of Lightning: in a shell that Slurm has started, the processes that Lightning starts have both of the latter.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


class Status(NamedTuple):
    """How a run stands.

    Attributes:
        state: what it is or how it ended; a run that was killed stays ``running``. ``interrupted`` is by Ctrl-C,
            ``preempted`` by another signal: both go on by ``resume=auto``.
        reason: of a failure or of an end by a signal, one line.
        started: ISO 8601.
        ended: ISO 8601, None while it runs.
        host: the machine.
        pid: of the process there.
        devices: CUDA_VISIBLE_DEVICES, None where it was not set.
    """

    state: State
    reason: str | None = None
    started: str | None = None
    ended: str | None = None
    host: str | None = None
    pid: int | None = None
    devices: str | None = None


class Pruned(Exception):  # noqa: N818 - optuna's TrialPruned is of the same kind: an end, not an error
    """Stops a trial of a search that is not worth its time."""


def read(run_dir: Path) -> Status | None:
    """What the run directory says; None where there is no status or it cannot be read."""
    try:
        content: dict[str, Any] = json.loads((run_dir / STATUS_FILE).read_text(encoding="utf-8"))
        return Status(**{key: content.get(key) for key in Status._fields})  # type: ignore[arg-type]
    except (OSError, ValueError, AttributeError):
        return None


def write(run_dir: Path, status: Status) -> None:
    """Write ``status.json``, whole or not at all."""
    write_text(run_dir / STATUS_FILE, json.dumps(status._asdict(), indent=2) + "\n")


def end(run_dir: Path, state: State, reason: str | None = None) -> None:
    """Say how a run that was running has ended; one that has said so itself is believed."""
    status = read(run_dir) or Status("running")
    if status.state == "running":
        write(run_dir, status._replace(state=state, reason=reason, ended=now()))


@contextlib.contextmanager
def recorded(run_dir: Path) -> Iterator[None]:
    """Keep a run's status while it runs.

    The first process of a run holds its directory; each process says what it failed of.

    Raises:
        UserError: another run holds the directory.
    """
    if not first_process():
        told = read(run_dir)
        # One that has outlived a first process that was killed has no say about the run that is there by then.
        with _ending(run_dir, of=told.pid if told is not None and told.pid == os.getppid() else None):
            yield
        return
    with held(run_dir):
        write(
            run_dir,
            Status(
                state="running",
                started=now(),
                host=socket.gethostname(),
                pid=os.getpid(),
                devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
            ),
        )
        signals.before_an_end_at_once(lambda signum, reason: end(run_dir, _stopped_state(signum), reason))
        try:
            with _ending(run_dir):
                yield
            end(run_dir, "done")
        finally:
            signals.before_an_end_at_once(None)


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold a run directory against other processes; the system lets go of it when the process dies.

    Raises:
        UserError: it is held by another.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        before = read(run_dir)
        whom = f"process {before.pid} on {before.host}" if before is not None else "another process"
        raise UserError(
            f"{run_dir} is in use by {whom}: wait for its end, or choose another directory by hydra.run.dir=..."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_held(run_dir: Path) -> bool:
    """Whether a process holds the directory at this moment."""
    if not (run_dir / LOCK_FILE).exists():
        return False
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def first_process() -> bool:
    """Whether this is the first process of its run, as the environment has it before anything is imported."""
    return next((int(rank) for name in _RANKS if (rank := os.environ.get(name, "")).isdigit()), 0) == 0


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def _ending(run_dir: Path, *, of: int | None = None) -> Iterator[None]:
    """Say how a run ended, if its first process is the one that is given or none is."""
    try:
        yield
    except BaseException as error:
        state, reason = _told(error)
        now_told = read(run_dir)
        if of is None or (now_told is not None and now_told.pid == of):
            end(run_dir, state, reason)
        raise


def _stopped_state(signum: int) -> State:
    return "interrupted" if signals.exit_code(signum) == signals.INTERRUPTED else "preempted"


def _told(error: BaseException) -> tuple[State, str | None]:
    """State and reason for how a script ended, which has turned a user's mistake into SystemExit by then."""
    cause = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(cause, signals.Stopped):
        return _stopped_state(cause.signum), cause.reason
    left = error.code if isinstance(error, SystemExit) else 1
    if isinstance(error, KeyboardInterrupt) or left in (signals.INTERRUPTED, 0, None):
        return "interrupted", None
    if isinstance(cause, Pruned):
        return "pruned", str(cause)
    if cause is None:
        return "failed", f"exit code {getattr(error, 'code', None)}"
    sentence = explain(cause)
    return "failed", sentence or f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"

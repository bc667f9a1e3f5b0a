"""The file that a search and its trials write to.

The file is Optuna's journal. SQLite would do on one machine, but trials of a cluster report from other ones, over file
systems on which its locks cannot be relied on; and what only ever appends loses nothing that was written when a process
is killed. Its lock is the one that the rest of the project uses, which the system takes from a dead process at once:
Optuna's own lock files would outlive it for half a minute.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

STUDY_FILE = "study.journal"

#: Of the study in it.
NAME = "search"


class _Lock(JournalFileOpenLock):
    """The system's lock on a file beside the journal, instead of the file itself being the lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def storage(sweep_dir: Path) -> optuna.storages.JournalStorage:
    """Open the journal of a sweep's directory; Optuna keeps quiet from then on."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    path = sweep_dir / STUDY_FILE
    return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path)))


def mend(sweep_dir: Path) -> None:
    """Cut off a last line that was not written to its end (a full disk, a power cut): with it no line after is read."""
    path = sweep_dir / STUDY_FILE
    if not path.is_file():
        return
    lock = _Lock(path)
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    finally:
        lock.release()

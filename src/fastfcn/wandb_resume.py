"""Which run of W&B a training belongs to: one that goes on after a crash goes on there too.

The id is kept in the run's directory from the start of the run. It must not travel with a copy of the directory.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ID_FILE = "wandb_run.json"


class Identity(NamedTuple):
    """Of a run of W&B.

    Attributes:
        id: Its id.
        goes_on: Whether it began before.
    """

    id: str
    goes_on: bool


def choose_id(run_dir: Path, *, resume: str | None) -> Identity:
    """The id of the run that goes on in a directory, or a new one; kept there.

    Args:
        run_dir: The run's directory.
        resume: The checkpoint that the training goes on from, ``auto`` for the last one in the directory, or None.

    Returns:
        The run that the directory keeps, where the checkpoint lies in the directory and the directory is not a copy of
        one that still exists.
    """
    goes_on = resume == "auto" or (
        resume is not None and Path(resume).expanduser().resolve().is_relative_to(run_dir.resolve())
    )
    kept = _kept_id(run_dir) if goes_on else None
    chosen = Identity(kept or secrets.token_hex(6), kept is not None)
    remember_id(run_dir, chosen.id)
    return chosen


def remember_id(run_dir: Path, run_id: str) -> None:
    """Keep the id of a run in its directory."""
    kept = {"id": run_id, "run_dir": str(run_dir.resolve())}
    with contextlib.suppress(OSError):  # a full disk: this run goes on, one resumed after it will be another
        (run_dir / ID_FILE).write_text(json.dumps(kept) + "\n", encoding="utf-8")


def next_step(wandb_dir: Path, run_id: str) -> int:
    """The step at which an offline part of a run goes on.

    W&B counts its steps in the parts of an offline run from 0 each. To join them, ``wandb sync`` needs numbers that do
    not overlap.

    Args:
        wandb_dir: Where the parts so far lie.
        run_id: Of the run.

    Returns:
        One more than the last step of the newest part of which any can be read; 0 where there is none.
    """
    parts = sorted(wandb_dir.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"), key=_changed, reverse=True)
    steps = (step for step in map(_last_step, parts) if step is not None)
    return next(steps, -1) + 1


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _last_step(log: Path) -> int | None:
    """The last step in a part of a run, by W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(log), "--summary", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        step = json.loads(done.stdout)["step"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None
    return None if step is None else int(step)


def _kept_id(run_dir: Path) -> str | None:
    try:
        kept = json.loads((run_dir / ID_FILE).read_text(encoding="utf-8"))
        run_id, home = str(kept["id"]), Path(kept["run_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A directory that was moved is the same run; one that was copied is not.
    copied = home != run_dir.resolve() and (home / ID_FILE).is_file()
    return None if copied else run_id

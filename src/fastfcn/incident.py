"""A batch that had no finite loss or gradients: what is kept of it, and the command that runs it again.

Nothing heavy is imported: the command is made before Hydra composes anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastfcn.errors import UserError
from fastfcn.whole_files import write_text

#: Asks for a replay on the command line of train.py.
ASKED = "debug.replay="

#: Overrides that a replay has of its own, or has no use for: with every key below them.
_OF_THE_RUN = ("hydra", "sweep", "run_name", "resume", "init_from", "logger", "debug", "replay", "test", "speed", "fit")


class Incident(NamedTuple):
    """One optimizer step whose loss or gradients were not finite in a process.

    Attributes:
        what: was not finite.
        epoch: from 0.
        step: optimizer steps before it.
        batches: numbers within the epoch of the batches that made the step; the last one may be where it showed.
        seed: of the run: the order of an epoch and the augmentations are functions of it, the epoch and the image.
        torch_seeds: of each batch: what dropout draws from.
        processes: how many shared each batch.
        global_batch: images of a batch over all of them.
        checkpoint: the last good one before it; None where none was written.
        overrides: of the run's command line.
        ranks: for each process its rank and its batches, each with its loss as text (to the last bit), the terms of the
            loss, and its images: name, index in the data set and augmentation seed.
    """

    what: Literal["loss", "gradients"]
    epoch: int
    step: int
    batches: list[int]
    seed: int | None
    torch_seeds: list[int | None]
    processes: int
    global_batch: int | None
    checkpoint: str | None
    overrides: list[str]
    ranks: list[dict[str, Any]]


def write(path: Path, incident: Incident) -> None:
    """Write it as JSON, whole or not at all."""
    write_text(path, json.dumps(incident._asdict(), indent=2) + "\n")


def read(path: str | Path) -> Incident:
    """Read what `write` has written.

    Raises:
        UserError: there is no such file, or it is of another kind.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return Incident(**content)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{ASKED}{path} cannot be read ({error}): give a file that a training has left under non_finite/ in its "
            "run directory."
        ) from error


def arguments(given: Sequence[str]) -> list[str]:
    """A command line with ``debug.replay=FILE`` written out: the run's own overrides, and what makes it a replay.

    Args:
        given: the arguments of train.py; without a file they stay as they are. Others than the file come last, so that
            they count (``trainer.accelerator=cpu``, another checkpoint by ``resume=``).

    Raises:
        UserError: the file cannot be read.
    """
    files = [item.removeprefix(ASKED) for item in given if item.startswith(ASKED)]
    if not files:
        return list(given)
    path = files[-1].strip("'\"")
    incident = read(path)
    kept = [item for item in incident.overrides if not _of_the_run(item)]
    begin = [item for item in incident.overrides if _key(item) == "init_from"] if incident.checkpoint is None else []
    resume = "null" if incident.checkpoint is None else _quoted(incident.checkpoint)
    own = ["debug=replay", f"replay={_quoted(path)}", f"resume={resume}", "logger=none", "test=false", "compile=false"]
    return [*kept, *begin, *own, *(item for item in given if not item.startswith(ASKED))]


def _key(override: str) -> str:
    """``trainer.max_epochs`` of ``++trainer.max_epochs=3``; ``callbacks.best`` of ``~callbacks.best``."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _of_the_run(override: str) -> bool:
    key = _key(override)
    return any(key == own or key.startswith((f"{own}.", f"{own}/")) for own in _OF_THE_RUN)


def _quoted(text: str) -> str:
    """As Hydra takes a value that may hold any character."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

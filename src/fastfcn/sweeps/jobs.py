"""The jobs of a sweep: rows times values, and how each stands by its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastfcn import status
from fastfcn.config_types import shown
from fastfcn.errors import UserError
from fastfcn.naming import RESULTS_FILE, SWEEP_FILE
from fastfcn.whole_files import write_text

#: Settings in which two runs of the same job may differ: places, processes, and what is watched or logged.
FREE_SETTINGS = (
    "paths", "logger", "resume", "run_name", "compile", "keep_heap", "data.num_workers", "data.dataset.cache_dir",
    "callbacks.progress", "callbacks.show_summary", "callbacks.learning_rate", "callbacks.draw_predictions",
    "callbacks.log_classes", "callbacks.timer", "callbacks.best.dirpath", "callbacks.last.dirpath",
    "callbacks.report_to_study", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
    "trainer.plugins", "trainer.default_root_dir", "trainer.benchmark", "trainer.log_every_n_steps",
)  # fmt: skip

_ROOT = "data.dataset.root"

Standing = Literal["done", "goes on", "new"]


class Job(NamedTuple):
    """One training of a sweep.

    Attributes:
        name: of the run, unlike all others of the sweep.
        sweep_dir: of the sweep.
        overrides: what the command line of this job alone would say.
        config: resolved and plain.
    """

    name: str
    sweep_dir: Path
    overrides: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.sweep_dir / self.name


def combine(rows: Sequence[Mapping[str, Any]], values: Sequence[Sequence[str]], *, sweep: str) -> list[tuple[str, ...]]:
    """Overrides of each job: every row with every combination of values.

    A key that both have is a filter: ``upsample=jpu`` leaves the rows that have it.

    Args:
        rows: key -> value; none is one row without keys.
        values: combinations of ``key=value``, of the command line and of the sweep's own parameters.
        sweep: the sweep's name, for messages.

    Raises:
        UserError: no row is left.
    """
    jobs: list[tuple[str, ...]] = []
    for row in rows or ({},):
        own = {key: f"{key}={shown(value)}" for key, value in row.items()}
        for combination in values:
            given = {item.partition("=")[0].lstrip("+"): item for item in combination}
            if all(given.get(key, item) == item for key, item in own.items()):
                jobs.append((*(item for key, item in own.items() if key not in given), *combination))
    if not jobs:
        raise UserError(f"no row of sweep={sweep} is left by {_filters(rows, values)}.")
    return list(dict.fromkeys(jobs))


def standing(job: Job, saved: Mapping[str, Any] | None) -> Standing:
    """How a job stands by what its directory holds.

    Args:
        job: the job.
        saved: the configuration that the directory was made with; None where there is none.

    Raises:
        UserError: the directory holds a run of other settings.
    """
    done = is_done(job.directory)
    begun = any((job.directory / "checkpoints").glob("*.ckpt"))
    if (done or begun) and saved is not None and (found := differences(job.config, saved)):
        key, (now, before) = next(iter(found.items()))
        raise UserError(
            f"{job.directory} holds a run with {key}={before}, now it is {now}: give this sweep a place of its own by "
            "hydra.sweep.dir=..., or remove that directory."
        )
    return "done" if done else "goes on" if begun else "new"


def is_done(directory: Path) -> bool:
    """Whether a run has come to its end, or was pruned on purpose."""
    try:
        return isinstance(json.loads((directory / RESULTS_FILE).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        before = status.read(directory)
        return before is not None and before.state == "pruned"


def differences(config: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that decide a result and are not the same: key -> (now, before).

    A key that only one of them has counts by its value None: a setting that came with a later version of the program
    and is off changes nothing. Of the data's folder the last part counts, for data move; where speed is measured, the
    kind of device counts.
    """
    ours, theirs = (_told_apart(tree) for tree in (config, saved))
    keys = dict.fromkeys([*ours, *theirs])
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}


def _told_apart(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration decides a result."""
    found = {key: value for key, value in flat(config).items() if not is_free(key)}
    if found.get(_ROOT) is not None:
        found[_ROOT] = Path(str(found[_ROOT])).name
    if config.get("speed") is not None:
        found["trainer.accelerator"] = config.get("trainer", {}).get("accelerator")
        found["keep_heap"] = config.get("keep_heap")
    return found


def is_free(key: str) -> bool:
    """Whether two runs of the same job may differ in a setting."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE_SETTINGS)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: ``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def save(jobs: Sequence[Job], *, sweep: str | None, command: str) -> None:
    """Write what the sweep consists of to ``sweep.json`` in its directory, for the report; earlier jobs stay in it."""
    for sweep_dir in dict.fromkeys(job.sweep_dir for job in jobs):
        path = sweep_dir / SWEEP_FILE
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        except (OSError, ValueError, KeyError, TypeError):
            known = []
        listed = {entry["name"]: entry for entry in known}
        for job in jobs:
            if job.sweep_dir == sweep_dir:
                overrides = [item for item in job.overrides if not item.startswith(("run_name=", "resume="))]
                listed[job.name] = {"name": job.name, "directory": job.name, "overrides": overrides}
        content = {"sweep": sweep, "command": command, "jobs": list(listed.values())}
        write_text(path, json.dumps(content, indent=2) + "\n")


def quoted(value: object) -> str:
    """Text as a quoted value of Hydra's grammar, where only the quote and a backslash before it need care."""
    text = str(value).replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{text}'"


def _filters(rows: Sequence[Mapping[str, Any]], values: Sequence[Sequence[str]]) -> str:
    keys = {key for row in rows for key in row}
    given = dict.fromkeys(item for combination in values for item in combination if item.partition("=")[0] in keys)
    choices = "; ".join(
        f"{key}={','.join(dict.fromkeys(shown(row[key]) for row in rows if key in row))}" for key in sorted(keys)
    )
    return f"{' '.join(given)}: its rows have {choices}"

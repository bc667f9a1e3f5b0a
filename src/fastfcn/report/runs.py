"""One run directory, read: a finished run with its figures, or in what state a run was left."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fastfcn.results import RESULTS_FILE

CONFIG_FILE = "config.yaml"
STATUS_FILE = "status.json"
OVERRIDES_FILE = "overrides.yaml"
PROVENANCE_FILE = "provenance.json"

#: What a run directory holds one of, as soon as its run has begun.
_MARKS = (CONFIG_FILE, RESULTS_FILE, STATUS_FILE, ".hydra")

_COMPOSED = ("hydra", "config", "overrides")

#: What the speed of a run is told by.
_SPEED = ("fps", "median_ms", "p10_ms", "p90_ms")

#: States of status.json in which a run has no figures that count, whatever else lies there.
_ENDED_BADLY = ("failed", "interrupted", "preempted", "pruned")


class Run(NamedTuple):
    """A finished run: tested, or of speed alone.

    Attributes:
        directory: the run directory.
        head: option of conf/head.
        upsample: option of conf/upsample.
        backbone: option of conf/backbone, or timm's name of it.
        seed: of the run.
        results: content of ``results.json``.
        checkpoint: the best one's file; None where it is not at hand.
        config: the resolved configuration.
        overrides: what the command line changed.
        provenance: content of ``provenance.json``; empty where there is none.
        status: content of ``status.json``; empty where there is none.
    """

    directory: Path
    head: str
    upsample: str
    backbone: str
    seed: int
    results: dict[str, Any]
    checkpoint: Path | None
    config: dict[str, Any]
    overrides: list[str]
    provenance: dict[str, Any]
    status: dict[str, Any]

    @property
    def test(self) -> dict[str, Any]:
        """Figures of the test; empty for a run of speed alone."""
        return self.results.get("test") or {}

    @property
    def skipped(self) -> dict[str, int]:
        """How many samples that cannot be read it was made without, by split."""
        return {split: len(told) for split, told in (self.results.get("skipped") or {}).items()}

    @property
    def data(self) -> str:
        """Option of conf/data."""
        return str(self.results["choices"].get("data", "unknown data"))

    @property
    def protocol(self) -> str:
        """How the test was taken: whole, center_crop, slide or multiscale."""
        crops = "whole" if self.config["data"].get("whole_eval") else "center_crop"
        return str(self.results.get("protocol") or crops)

    @property
    def ended(self) -> datetime:
        """When it came to its end; of older runs, when its figures were written at the latest."""
        if ended := _time(self.status.get("ended")):
            return ended
        if started := _time(self.provenance.get("started")):
            return started + timedelta(seconds=self.results.get("train_seconds") or 0)
        return datetime.fromtimestamp((self.directory / RESULTS_FILE).stat().st_mtime, UTC)


class Identity(NamedTuple):
    """What a run is meant to be, as it was composed before its first step."""

    data: str
    backbone: str
    head: str
    upsample: str
    seed: int


class Unfinished(NamedTuple):
    """A run directory without figures to report.

    Attributes:
        directory: the run directory.
        state: failed, interrupted, preempted, pruned, running, crashed, unfinished, untested or unreadable.
        reason: why, or what is known of it; continues a sentence that begins with the directory.
        identity: None where nothing tells it.
        overrides: what its command line changed.
    """

    directory: Path
    state: str
    reason: str
    identity: Identity | None = None
    overrides: tuple[str, ...] = ()


class _UnreadableError(Exception):
    """A file of a run directory is not what train.py writes."""


def is_run(directory: Path) -> bool:
    """Whether a training was started in this directory; an evaluation's does not count."""
    return any((directory / mark).exists() for mark in _MARKS) and not (directory / "evaluation.json").exists()


def read_run(directory: Path) -> Run | Unfinished:
    """Read a run directory; whatever is wrong with it is told, not raised."""
    found = _read(directory)
    if isinstance(found, Run):
        return found
    try:
        # what Hydra leaves before the first line of train.py runs
        hydra, config, overrides = (_yaml(directory / ".hydra" / f"{file}.yaml") for file in _COMPOSED)
        choices = hydra["hydra"]["runtime"]["choices"]
        backbone = config["backbone"]["name"] if choices["backbone"] == "timm" else choices["backbone"]
        identity = Identity(choices["data"], backbone, choices["head"], choices["upsample"], int(config["seed"]))
        return found._replace(identity=identity, overrides=tuple(overrides))
    except (_UnreadableError, KeyError, TypeError, ValueError):
        return found


def _read(directory: Path) -> Run | Unfinished:
    try:
        status = _json(directory / STATUS_FILE)
        if status.get("state") in _ENDED_BADLY:
            reason = " ".join(str(status.get("reason") or "no reason was recorded").split())
            return Unfinished(directory, status["state"], f"{status['state']}: {reason}")
        if not (directory / RESULTS_FILE).is_file():
            return _without_results(directory, status)
        return _finished(directory, status)
    except _UnreadableError as error:
        return Unfinished(directory, "unreadable", str(error))


def _without_results(directory: Path, status: Mapping[str, Any]) -> Unfinished:
    if status.get("state") != "running":
        return Unfinished(directory, "unfinished", f"has no {RESULTS_FILE}: it has not come to its end")
    host, pid = status.get("host"), status.get("pid")
    since = f"since {status.get('started', 'an unknown time')}"
    if host != socket.gethostname() or not isinstance(pid, int):
        return Unfinished(
            directory,
            "running",
            f"is running {since}, or was killed: on {host}, where it cannot be looked for from here",
        )
    if _alive(pid):
        return Unfinished(directory, "running", f"is running {since} (process {pid})")
    return Unfinished(directory, "crashed", f"crashed: its process {pid} is gone and left neither figures nor a reason")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True


def _finished(directory: Path, status: dict[str, Any]) -> Run | Unfinished:
    results = _json(directory / RESULTS_FILE)
    needed = ("choices", "best_checkpoint", "test")
    if missing := [key for key in needed if key not in results]:
        raise _UnreadableError(f"has no {' and no '.join(missing)} in its {RESULTS_FILE}: train.py writes them")
    choices, test = results["choices"], results["test"]
    if not isinstance(choices, Mapping) or any(part not in choices for part in ("head", "upsample", "backbone")):
        raise _UnreadableError(f"does not tell its head, upsample and backbone in the choices of its {RESULTS_FILE}")
    if test is None and not results.get("speed"):
        return Unfinished(directory, "untested", "was not tested (test=false)")
    if test is not None and not (isinstance(test, Mapping) and "mIoU" in test and "IoU" in test):
        raise _UnreadableError(f"has no mIoU and IoU under test in its {RESULTS_FILE}")
    if (speed := results.get("speed")) and not (isinstance(speed, Mapping) and all(key in speed for key in _SPEED)):
        raise _UnreadableError(f"has no {', '.join(_SPEED)} under speed in its {RESULTS_FILE}")
    config = _yaml(directory / CONFIG_FILE)
    if not isinstance(config, dict) or not isinstance(config.get("data"), Mapping):
        raise _UnreadableError(f"has no data in its {CONFIG_FILE}")
    named = str(config.get("backbone", {}).get("name", choices["backbone"]))
    return Run(
        directory=directory,
        head=str(choices["head"]),
        upsample=str(choices["upsample"]),
        backbone=named if choices["backbone"] == "timm" else str(choices["backbone"]),
        seed=int(config.get("seed", 0)),
        results=results,
        checkpoint=_checkpoint(directory, results["best_checkpoint"]),
        config=config,
        overrides=[str(override) for override in _yaml(directory / OVERRIDES_FILE, missing=[])],
        provenance=_json(directory / PROVENANCE_FILE),
        status=status,
    )


def _checkpoint(directory: Path, recorded: str | None) -> Path | None:
    """Where the best checkpoint lies now: the run directory may have been moved, or come from another machine."""
    if recorded is None:
        return None
    places = (Path(recorded), directory / "checkpoints" / Path(recorded).name)
    return next((place for place in places if place.is_file()), None)


def _json(path: Path) -> dict[str, Any]:
    """An object from a file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _UnreadableError(f"has a damaged {path.name}") from error
    if not isinstance(content, dict):
        raise _UnreadableError(f"has a {path.name} that is no JSON object")
    return content


def _yaml(path: Path, *, missing: object = None) -> Any:
    if not path.is_file():
        if missing is None:
            raise _UnreadableError(f"has no {path.name}")
        return missing
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise _UnreadableError(f"has a damaged {path.name}") from error


def _time(text: object) -> datetime | None:
    """A time with its zone; one that names none is taken as UTC."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

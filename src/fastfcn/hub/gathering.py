"""What a run directory tells of a checkpoint: its configuration, its figures, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fastfcn import evaluation_report
from fastfcn.checkpoint import Checkpoint, read_checkpoint
from fastfcn.errors import UserError
from fastfcn.evaluation_report import JSON_FILE
from fastfcn.hub.address import is_address, parse
from fastfcn.naming import RESULTS_FILE
from fastfcn.official import read_official


class Source(NamedTuple):
    """What is known of a model.

    Attributes:
        given: The checkpoint, as it was named.
        checkpoint: What it holds.
        config: The run's resolved configuration; empty where there is no run directory.
        overrides: What its command line changed.
        provenance: Of the training.
        evaluation: Content of `evaluation.json` of this checkpoint; empty where there is none.
        test: Figures of the test at the training's end, where it was of this checkpoint.
        protocol: By which the test was taken.
    """

    given: str
    checkpoint: Checkpoint
    config: Mapping[str, Any] = {}
    overrides: Sequence[str] = ()
    provenance: Mapping[str, Any] = {}
    evaluation: Mapping[str, Any] = {}
    test: Mapping[str, Any] = {}
    protocol: str = ""


def gather(*, ckpt_path: str | None, official: str | None, evaluation: str | None) -> Source:
    """Read a checkpoint and what lies in its run directory.

    Args:
        ckpt_path: Of this project.
        official: Or of the original code, or of mmsegmentation.
        evaluation: An `evaluation.json` of it, or its folder; None: that of the run directory, if there is one.

    Raises:
        UserError: Not exactly one checkpoint is given, a file cannot be used, or the evaluation is of another.
    """
    given = ckpt_path or official
    if given is None or None not in (ckpt_path, official):
        raise UserError("to=hub needs ckpt_path=..., a checkpoint of this project, or official=..., and not both.")
    source = Source(given, read_official(given) if ckpt_path is None else read_checkpoint(given))
    folder = _run_dir(given)
    if folder is not None:
        source = source._replace(
            config=_read(folder / "config.yaml"),
            overrides=_read(folder / "overrides.yaml", []),
            provenance=_read(folder / "provenance.json", {}),
            **_test(folder, Path(given).name),
        )
    beside = folder / JSON_FILE if folder is not None else None
    if evaluation is None and beside is not None and beside.is_file() and _is_of(_evaluated(beside), given):
        evaluation = str(beside)
    return source if evaluation is None else source._replace(evaluation=_evaluation(evaluation, given))


def _run_dir(given: str) -> Path | None:
    """The run directory of a checkpoint in its folder ``checkpoints``."""
    if is_address(given):
        return None
    folder = Path(given).expanduser().resolve().parent
    return folder.parent if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file() else None


def _test(folder: Path, checkpoint: str) -> dict[str, Any]:
    """Figures of the training's own test, where it was of a checkpoint of that name."""
    results = _read(folder / RESULTS_FILE, {})
    best, figures = results.get("best_checkpoint"), results.get("test")
    tested = Path(str(best)).name if best else "last.ckpt"
    if not isinstance(figures, Mapping) or tested != checkpoint:
        return {}
    return {"test": dict(figures), "protocol": str(results.get("protocol", ""))}


def _evaluation(path: str, given: str) -> dict[str, Any]:
    found = evaluation_report.read(path)  # sees that it is one
    if not _is_of(_evaluated(found.path), given):
        raise UserError(
            f"hub.evaluation={path} is of {_evaluated(found.path)}, not of {given}: evaluate that by python "
            "src/eval.py ckpt_path=... and give the folder that it leaves."
        )
    return dict(_read(found.path))


def _evaluated(path: Path) -> str:
    return str(_read(path).get("checkpoint"))


def _is_of(evaluated: str, given: str) -> bool:
    """Whether an evaluation is of a checkpoint; its path may be relative to a folder that nobody knows any more."""
    if is_address(given):
        return is_address(evaluated) and parse(evaluated) == parse(given)
    theirs, ours = Path(evaluated).expanduser(), Path(given).expanduser().resolve()
    # checkpoints/best.ckpt alone is that of any run.
    known = not theirs.is_absolute() and len(theirs.parts) > 2
    return theirs.resolve() == ours or (known and ours.parts[-len(theirs.parts) :] == theirs.parts)


def _read(path: Path, otherwise: Any = None) -> Any:
    """Content of a file of JSON or YAML; something else where there is no such file and that may be."""
    if not path.is_file() and otherwise is not None:
        return otherwise
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if not isinstance(found, list if path.name == "overrides.yaml" else dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}): copy the run directory again, or remove it.") from error

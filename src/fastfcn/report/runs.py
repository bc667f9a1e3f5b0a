"""The runs that a report is about: found, read, put in order, and checked to be comparable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning.core.saving import load_hparams_from_yaml

from fastfcn.errors import UserError
from fastfcn.results import RESULTS_FILE

#: Table 1 of the paper, then what came later; anything else follows in the order of the alphabet.
UPSAMPLERS = ("none", "bilinear", "fpn", "jpu", "jpu_x")
HEADS = ("encoding", "aspp", "psp", "fcn")

#: What a run directory holds one of, as soon as its run has begun.
_MARKS = ("config.yaml", RESULTS_FILE, ".hydra")


class Run(NamedTuple):
    """A finished and tested run.

    Attributes:
        directory: the run directory.
        head: option of conf/head.
        upsample: option of conf/upsample.
        backbone: option of conf/backbone, or timm's name of it.
        seed: of the run.
        results: content of ``results.json``.
        checkpoint: the best one's file.
        config: the resolved configuration.
        overrides: what the command line changed.
        provenance: content of ``provenance.json``; empty where there is none.
    """

    directory: Path
    head: str
    upsample: str
    backbone: str
    seed: int
    results: dict[str, Any]
    checkpoint: Path
    config: dict[str, Any]
    overrides: list[str]
    provenance: dict[str, Any]


class Incomplete(NamedTuple):
    """A run directory that cannot be reported on, and why."""

    directory: Path
    reason: str


def read_runs(source: str | Path | Sequence[str | Path] | None) -> tuple[list[Run], list[Incomplete]]:
    """Read every run under a directory, or those listed.

    Args:
        source: a directory whose sub-directories are run directories, or a run directory, or several of these.

    Returns:
        The runs in the paper's order, and those that have to be left out.

    Raises:
        UserError: a directory does not exist, or no complete run is there.
    """
    sources = [source] if isinstance(source, str | Path) else list(source or ())
    directories = [directory for each in sources for directory in _run_directories(Path(each).expanduser())]
    if not directories:
        raise UserError(
            f"runs={', '.join(map(str, sources)) or '[]'}: there is no run in it; name a directory whose "
            "sub-directories are run directories, e.g. runs=outputs/demo."
        )
    each_once = {directory.resolve(): directory for directory in directories}
    read = [_read_run(directory) for directory in each_once.values()]
    incomplete = [run for run in read if isinstance(run, Incomplete)]
    runs = sorted((run for run in read if isinstance(run, Run)), key=_paper_order)
    if not runs:
        first = incomplete[0]
        more = f" (and {len(incomplete) - 1} more are incomplete)" if len(incomplete) > 1 else ""
        raise UserError(f"no run can be reported on: {first.directory} {first.reason}{more}; train it to its end.")
    return runs, incomplete


def labels(runs: Sequence[Run]) -> list[str]:
    """A short name for each run, unlike all others: the upsampler, and what else the runs differ in."""

    def name(run: Run) -> str:
        parts = {"head": run.head, "upsample": run.upsample, "backbone": run.backbone, "seed": f"s{run.seed}"}
        shown = ["upsample", *(part for part in ("head", "backbone", "seed") if _differ(runs, part))]
        return " ".join(text for part, text in parts.items() if part in shown)

    names = [name(run) for run in runs]
    for places in ([run.directory.name for run in runs], [str(run.directory) for run in runs]):
        if len(set(names)) == len(names):
            break
        names = [f"{name(run)} ({place})" for run, place in zip(runs, places, strict=True)]
    return names


def _run_directories(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        raise UserError(f"runs={source}: there is no such directory; a multirun leaves its own under outputs/.")
    if _is_run(source):
        yield source
    else:
        yield from sorted(child for child in source.iterdir() if child.is_dir() and _is_run(child))


def _is_run(directory: Path) -> bool:
    return any((directory / mark).exists() for mark in _MARKS)


def _read_run(directory: Path) -> Run | Incomplete:
    if not (directory / RESULTS_FILE).is_file():
        return Incomplete(directory, f"has no {RESULTS_FILE}: it has not come to its end")
    if not (directory / "config.yaml").is_file():
        return Incomplete(directory, "has no config.yaml")
    try:
        results = json.loads((directory / RESULTS_FILE).read_text(encoding="utf-8"))
    except ValueError:
        return Incomplete(directory, f"has a damaged {RESULTS_FILE}")
    if missing := [key for key in ("choices", "best_checkpoint", "test") if key not in results]:
        return Incomplete(directory, f"has no {' and no '.join(missing)} in its {RESULTS_FILE}: train.py writes them")
    if results["test"] is None:
        return Incomplete(directory, "was not tested (test=false)")
    if results["best_checkpoint"] is None:
        return Incomplete(directory, "has no best checkpoint: it was never validated")
    checkpoint = Path(results["best_checkpoint"])
    if not checkpoint.is_file():  # the run directory may have been moved, or come from another machine
        checkpoint = directory / "checkpoints" / checkpoint.name
    if not checkpoint.is_file():
        return Incomplete(directory, f"has lost its checkpoint {results['best_checkpoint']}")
    config = load_hparams_from_yaml(str(directory / "config.yaml"), use_omegaconf=False)
    choices = results["choices"]
    named = str(config.get("backbone", {}).get("name", choices["backbone"]))
    return Run(
        directory=directory,
        head=choices["head"],
        upsample=choices["upsample"],
        backbone=named if choices["backbone"] == "timm" else choices["backbone"],
        seed=int(config.get("seed", 0)),
        results=results,
        checkpoint=checkpoint,
        config=config,
        overrides=_overrides(directory / "overrides.yaml"),
        provenance=_provenance(directory / "provenance.json"),
    )


def _overrides(path: Path) -> list[str]:
    """Each line after the first is ``- "key=value"``, a JSON string behind a dash."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line.removeprefix("- ")) for line in lines if line.startswith("- ")]


def _provenance(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _paper_order(run: Run) -> tuple[Any, ...]:
    def place(name: str, known: Sequence[str]) -> tuple[int, str]:
        return (known.index(name) if name in known else len(known), name)

    # resnet50 stands before resnet101
    backbone = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", run.backbone)
    )
    return backbone, place(run.head, HEADS), place(run.upsample, UPSAMPLERS), run.seed, str(run.directory)


def _differ(runs: Sequence[Run], part: str) -> bool:
    return len({getattr(run, part) for run in runs}) > 1

"""The figures that a run ends with: printed as a table, kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from fastfcn import naming
from fastfcn.agreement import gathered_objects
from fastfcn.types import DataFacts
from fastfcn.whole_files import write_text

RESULTS_FILE = naming.RESULTS_FILE

#: Shown before the classes, in this order, where measured.
HEADLINES = ("pixAcc", "mIoU", "score", "boundary_IoU", "thin_IoU")


def gather(metrics: Mapping[str, Tensor | float], facts: DataFacts) -> dict[str, Any]:
    """Pick the test figures out of everything that was logged.

    Returns:
        The headlines by name, and ``IoU`` and ``class_boundary_IoU``: class name -> fraction, None for a class absent
        from labels and predictions.
    """

    def value(name: str) -> float | None:
        number = float(metrics[f"test/{name}"])
        return None if math.isnan(number) else number

    figures: dict[str, Any] = {name: value(name) for name in HEADLINES if f"test/{name}" in metrics}
    figures["IoU"] = {name: value(f"IoU/{name}") for name in facts.class_names}
    figures["class_boundary_IoU"] = {name: value(f"boundary_IoU/{name}") for name in facts.class_names}
    return figures


def save(run_dir: str | Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json`` into a run directory, whole or not at all."""
    path = Path(run_dir) / RESULTS_FILE
    write_text(path, json.dumps(results, indent=2) + "\n")
    return path


def all_skipped(
    skipped: Mapping[str, Iterable[str]], before: Mapping[str, Iterable[str]] | None = None
) -> dict[str, list[str]]:
    """What the processes of a run have skipped together; every one of them must call it.

    Args:
        skipped: By split, a sentence on each sample that this process left out.
        before: The same of the tries before this one.
    """
    each = (skipped, before or {})
    own = {split: [text for told in each for text in told.get(split, ())] for split in {**skipped, **(before or {})}}
    parts = gathered_objects(own)
    splits = dict.fromkeys(split for part in parts for split in part)
    return {split: sorted({text for part in parts for text in part.get(split, ())}) for split in splits}


def with_skipped(results: Mapping[str, Any], skipped: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Results with what they were made without; unchanged where no sample was skipped.

    Args:
        results: What is kept.
        skipped: By split, a sentence on each sample that was left out.
    """
    told = {split: sorted(sentences) for split, sentences in skipped.items() if sentences}
    for split, sentences in told.items():
        print(f"left out:        {samples(len(sentences))} of {split} that cannot be read")
    counted = {split: len(sentences) for split, sentences in told.items()}
    return {**results, **({"skipped_samples": counted, "skipped": told} if told else {})}


def samples(count: int) -> str:
    """A number of samples in words."""
    return f"{count} {'sample' if count == 1 else 'samples'}"


def without(skipped: Mapping[str, Sequence[str]], split: str) -> str:
    """What a heading says of figures that were measured without some samples of their split; else nothing."""
    count = len(skipped.get(split, ()))
    return f", without {samples(count)} that cannot be read" if count else ""


def table(figures: Mapping[str, Any]) -> Table:
    """The test table: headlines, a rule, one row per class; percent."""
    out = Table()
    out.add_column("")
    out.add_column("%", justify="right")
    names = [name for name in HEADLINES if name in figures]
    for name in names:
        out.add_row(name, percent(figures[name]), end_section=name == names[-1])
    for name, iou in figures["IoU"].items():
        out.add_row(f"IoU {name}", percent(iou))
    return out


def absent_note(figures: Mapping[str, Any]) -> str | None:
    """One line on classes that the mean leaves out, or None."""
    absent = [name for name, iou in figures["IoU"].items() if iou is None]
    if not absent:
        return None
    return f"left out of mIoU, neither labelled nor predicted: {', '.join(absent)}"


def show(figures: Mapping[str, Any], *, title: str) -> None:
    """Print a title, the test table and, where a class is left out of the mean, a note."""
    console = Console()
    # Not as the table's own title, which Rich would break to the table's width.
    console.print(title, soft_wrap=True, highlight=False, markup=False)
    console.print(table(figures))
    if note := absent_note(figures):
        console.print(note, soft_wrap=True)


def percent(value: float | None) -> str:
    """A fraction as percent with two decimals; a dash for None."""
    return "-" if value is None else f"{100 * value:.2f}"

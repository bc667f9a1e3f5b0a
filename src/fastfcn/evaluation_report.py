"""What an evaluation leaves: `evaluation.json`, with all that further questions need, and `evaluation.md` to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from fastfcn.counts import ImageCounts
from fastfcn.errors import UserError
from fastfcn.results import percent, samples
from fastfcn.statistics import DRAWS, LEVEL, Interval, compare, figures, intervals
from fastfcn.types import DataFacts
from fastfcn.whole_files import write_text

JSON_FILE, TEXT_FILE, COMPARISON_FILE = "evaluation.json", "evaluation.md", "comparison.json"

#: The figures that are given with an interval.
HEADLINES = ("pixAcc", "mIoU", "score", "mean_accuracy", "FWIoU")

#: Of the file's layout.
VERSION = 1

#: Confusions that the text names.
CONFUSIONS = 15


def paper_60(facts: DataFacts, miou: float) -> float | None:
    """The paper's mIoU on 60 classes (Table 3) of a model of 59: the background counts as wholly wrong.

    That is what its own two pairs of figures say: 54.03 x 59/60 = 53.13 and 52.10 x 59/60 = 51.23.
    """
    return miou * 59 / 60 if facts.name == "pascal_context" and facts.num_classes == 59 else None


def write(
    folder: Path,
    *,
    counts: ImageCounts,
    facts: DataFacts,
    about: Mapping[str, Any],
    more: Mapping[str, Any],
    boundaries: Mapping[str, float | None],
) -> dict[str, Interval]:
    """Write both files.

    Args:
        folder: Where to, made if missing.
        counts: Of each image.
        facts: Of the classes.
        about: What was evaluated and how: `checkpoint`, `data`, `split`, `inference`; `skipped`, a sentence on each
            image of the split that could not be read.
        more: Further figures, by name.
        boundaries: Boundary IoU, by class.

    Returns:
        The headlines with their intervals.
    """
    found = intervals(counts, HEADLINES)
    sums = (part.sum(axis=0).astype(np.float64) for part in (counts.right, counts.labelled, counts.predicted))
    each = figures(*sums)
    sixty = paper_60(facts, found["mIoU"].value)
    further = {**more, **({} if sixty is None else {"mIoU_60_as_the_paper": sixty})}
    labelled = counts.labelled.sum(axis=0)
    classes = {
        name: {
            "IoU": _known(each["IoU"][index]),
            "accuracy": _known(each["accuracy"][index]),
            "boundary_IoU": boundaries[name],
            "labelled": int(labelled[index]),
        }
        for index, name in enumerate(facts.class_names)
    }
    content = {
        "version": VERSION,
        **about,
        "figures": {name: interval._asdict() for name, interval in found.items()} | further,
        "intervals": {"level": LEVEL, "method": "percentile bootstrap over images", "draws": DRAWS},
        "classes": classes,
        "confusion": counts.matrix.tolist(),
        "images": counts.as_dict(),
    }
    write_text(folder / JSON_FILE, json.dumps(content) + "\n")
    write_text(folder / TEXT_FILE, _text(about, found, further, classes, counts, facts))
    return found


class Evaluation(NamedTuple):
    """An evaluation from its file.

    Attributes:
        path: The file.
        class_names: In order.
        counts: Of each image.
        about: What was evaluated and how.
    """

    path: Path
    class_names: tuple[str, ...]
    counts: ImageCounts
    about: dict[str, Any]


def read(path: str | Path) -> Evaluation:
    """Read `evaluation.json`.

    Raises:
        UserError: It is missing, damaged or of another layout.
    """
    path = Path(path).expanduser()
    path = path / JSON_FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        counts = ImageCounts.from_dict(content["images"], content["confusion"])
        about = {key: content[key] for key in ("checkpoint", "data", "split", "inference")}
        if content["version"] != VERSION:
            raise UserError(f"{path} has layout version {content['version']}, this program reads {VERSION}.")
        return Evaluation(path, tuple(content["classes"]), counts, about)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: an evaluation by eval.py leaves {JSON_FILE} in its folder.") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no evaluation ({type(error).__name__}: {error}): evaluate the checkpoint again."
        ) from error


def compare_files(paths: Sequence[str | Path], *, run_dir: str | Path) -> None:
    """Compare two evaluations of the same images, print a table and write `comparison.json`.

    Args:
        paths: Of the two `evaluation.json`, or of their folders; the second less the first is told.
        run_dir: Where the file goes.

    Raises:
        UserError: There are not two, or they cannot be compared.
    """
    if isinstance(paths, str) or len(paths) != 2:
        raise UserError("compare needs two evaluations: compare=[a/evaluation.json,b/evaluation.json].")
    first, second = (read(path) for path in paths)
    if first.class_names != second.class_names:
        raise UserError(f"{first.path} and {second.path} are of other classes: compare evaluations of the same data.")
    found = compare(first.counts, second.counts, HEADLINES)
    table = Table("%", "first", "second", "difference", f"{LEVEL:.0%} interval", "p")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in found.items():
        low, high = (f"{100 * value:+.2f}" for value in row.difference[1:])
        difference = f"{100 * row.difference.value:+.2f}"
        table.add_row(name, percent(row.first), percent(row.second), difference, f"{low} to {high}", f"{row.p:.4f}")
    for number, evaluation in (("first", first), ("second", second)):
        about = evaluation.about
        print(f"{number}: {about['checkpoint']}, {about['split']} of {about['data']}, {about['inference']['protocol']}")
    Console().print(table)
    print(f"{len(first.counts.names)} images, paired bootstrap of {DRAWS} draws")
    content = {
        "first": str(first.path),
        "second": str(second.path),
        "images": len(first.counts.names),
        "figures": {name: {**row._asdict(), "difference": row.difference._asdict()} for name, row in found.items()},
    }
    folder = Path(run_dir)
    write_text(folder / COMPARISON_FILE, json.dumps(content, indent=2) + "\n")
    print(f"comparison: {folder / COMPARISON_FILE}")


def _left_out(skipped: Sequence[str]) -> list[str]:
    """Which images of the split the figures are without."""
    if not skipped:
        return []
    return [
        f"**Left out: {samples(len(skipped))} that cannot be read; they count in no figure.**",
        "",
        *(f"- {' '.join(sentence.split())}" for sentence in skipped),
        "",
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _text(
    about: Mapping[str, Any],
    found: Mapping[str, Interval],
    further: Mapping[str, Any],
    classes: Mapping[str, Mapping[str, Any]],
    counts: ImageCounts,
    facts: DataFacts,
) -> str:
    protocol = ", ".join(f"{key} {value}" for key, value in about["inference"].items())
    lines = [
        f"# {about['split']} of {about['data']}",
        "",
        f"Checkpoint `{about['checkpoint']}`, {len(counts.names):,} images, {facts.num_classes} classes; {protocol}.",
        "",
        *_left_out(about.get("skipped", ())),
        f"| figure, % | | {LEVEL:.0%} interval |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {percent(row.value)} | {percent(row.low)} to {percent(row.high)} |"
            for name, row in found.items()
        ),
        *(f"| {name} | {percent(value)} | |" for name, value in further.items()),
        "",
        f"Intervals: percentile bootstrap over images, {DRAWS:,} draws; they say what other images of this kind would "
        "give, not what another training would.",
        "",
        "Pictures: [the worst images](worst.png), [the best](best.png), [errors along contours](boundaries.png), "
        "[what is taken for what](confusion.png).",
        "",
        "## Classes",
        "",
        "| class | IoU, % | accuracy, % | boundary IoU, % | labelled pixels |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {percent(row['IoU'])} | {percent(row['accuracy'])} | {percent(row['boundary_IoU'])} "
            f"| {row['labelled']:,} |"
            for name, row in classes.items()
        ),
        "",
        "## Largest confusions",
        "",
        "| labelled | predicted | share of the label's pixels, % | share of all errors, % |",
        "| --- | --- | ---: | ---: |",
    ]
    errors = counts.matrix - np.diag(counts.matrix.diagonal())
    total = max(int(errors.sum()), 1)
    for place in np.argsort(-errors, axis=None, kind="stable")[:CONFUSIONS]:
        label, predicted = np.unravel_index(place, errors.shape)
        count = int(errors[label, predicted])
        if count:
            share = count / max(int(counts.matrix[label].sum()), 1)
            names = f"{facts.class_names[label]} | {facts.class_names[predicted]}"
            lines.append(f"| {names} | {percent(share)} | {percent(count / total)} |")
    return "\n".join(lines) + "\n"

"""The doctor: reads every image and mask of a data set and says whether training can start.

`check.json` holds, by key: `dataset`, `ready`, `class_names`, `splits` (by split: `images`, `height` and `width` as
least, median and greatest, `pixels` of each class, `ignored` pixels) and `findings` (`severity`, `kind`, `split`,
`text`).
"""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fastfcn.data.files import FileDataset
from fastfcn.data.pairing import Unpaired
from fastfcn.errors import UserError
from fastfcn.preparation import histogram, processes, steps
from fastfcn.preparation.inspection import KINDS, Finding, Inspected, inspect
from fastfcn.preparation.progress import track
from fastfcn.types import DataFacts, SegmentationDataset

#: Findings of a kind that are printed; all of them are in the file.
SHOWN = 5

#: Samples to a process below which starting it takes longer than it saves: one takes a few milliseconds.
WORTH_A_PROCESS = 2500


def check(
    open_split: Callable[[str], SegmentationDataset],
    splits: Sequence[str],
    *,
    name: str,
    out: Path,
    workers: int | None = None,
) -> bool:
    """Inspect every sample, print what was found, write `check.json` and `classes.png`.

    Args:
        open_split: Gives the data set of a split.
        splits: The splits, the one that is trained on first.
        name: Of the data set.
        out: Folder of the two files, made if missing.
        workers: Processes; None: the cores, as far as each has enough to do.

    Returns:
        Whether training can start: nothing was found that is an error.

    Raises:
        UserError: The folder cannot be written to, or there is no split to inspect.
    """
    if not splits:
        raise UserError("prepare.splits=[]: name at least one split.")
    with _writing(out):  # now, and not after minutes of reading
        out.mkdir(parents=True, exist_ok=True)
    findings: list[Finding] = []
    datasets: dict[str, SegmentationDataset] = {}
    for split in splits:
        try:
            datasets[split] = open_split(split)
        except UserError as error:
            findings.append(Finding("unopened split", split, str(error)))
            continue
        unpaired: Sequence[Unpaired] = getattr(datasets[split], "findings", ())
        findings += (Finding(kind, split, text) for kind, text in unpaired)
    samples = _inspected(datasets, workers)
    findings += (finding for sample in samples for finding in sample.findings)
    findings += _duplicates(samples)
    findings += _untrained(datasets, samples, train=splits[0])
    findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
    ready = all(finding.severity != "error" for finding in findings)

    _print(datasets, samples, findings)
    with _writing(out):
        if any(_labelled(dataset) for dataset in datasets.values()):
            facts = next(iter(datasets.values())).facts
            shares = {split: _pixels(samples, datasets, split) for split in datasets if _labelled(datasets[split])}
            print(f"classes:  {histogram.draw(shares, facts, out / 'classes.png')}")
        report = _as_json(name, datasets, samples, findings, ready)
        steps.write_text(out / "check.json", json.dumps(report, indent=2) + "\n")
    print(f"findings: {out / 'check.json'}")
    errors = sum(finding.severity == "error" for finding in findings)
    print("Training can start." if ready else f"Training cannot start: {_number(errors, 'error')}.")
    return ready


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}): name another folder by prepare.out=..."
        ) from error


def _inspected(datasets: Mapping[str, SegmentationDataset], workers: int | None) -> list[Inspected]:
    """All samples, in order."""
    jobs = [(split, index) for split, dataset in datasets.items() for index in range(len(dataset))]
    workers = processes.number(workers, jobs=len(jobs), worth=WORTH_A_PROCESS)
    order = list(datasets)
    with track("checking", total=len(jobs)) as advance:
        samples = []
        for sample in processes.spread(functools.partial(inspect, datasets), jobs, workers=workers):
            samples.append(sample)
            advance()
    return sorted(samples, key=lambda sample: (order.index(sample.split), sample.where))


def _duplicates(samples: Sequence[Inspected]) -> Iterator[Finding]:
    """Images of the same pixels: a copy in another split makes its score worth less."""
    alike: defaultdict[bytes, list[Inspected]] = defaultdict(list)
    for sample in samples:
        if sample.digest is not None:
            alike[sample.digest].append(sample)
    for first, *others in alike.values():
        for other in others:
            over = first.split != other.split
            kind = "duplicate over splits" if over else "duplicate within a split"
            yield Finding(kind, other.split, f"{other.where} ({other.split}) is {first.where} ({first.split}).")


def _untrained(
    datasets: Mapping[str, SegmentationDataset], samples: Sequence[Inspected], *, train: str
) -> Iterator[Finding]:
    """What the split that is trained on does not show."""
    if train not in datasets:
        return
    pixels = _pixels(samples, datasets, train)
    if not pixels.any():
        yield Finding("no labels to train on", train, f"No pixel of the split {train} belongs to a class.")
        return
    for name, count in zip(datasets[train].facts.class_names, pixels, strict=True):
        if not count:
            yield Finding("class not in training", train, f"No pixel of the split {train} is labelled {name!r}.")


def _labelled(dataset: SegmentationDataset) -> bool:
    return dataset.labelled if isinstance(dataset, FileDataset) else True


def _pixels(
    samples: Sequence[Inspected], datasets: Mapping[str, SegmentationDataset], split: str
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(num_classes,) labelled pixels of a split."""
    counts = np.zeros((0, datasets[split].facts.num_classes + 1), dtype=np.int64)
    if here := [sample.pixels for sample in samples if sample.split == split]:
        counts = np.array(here, dtype=np.int64)
    pixels: np.ndarray[Any, np.dtype[np.int64]] = counts.sum(axis=0)[:-1]
    return pixels


def _print(
    datasets: Mapping[str, SegmentationDataset], samples: Sequence[Inspected], findings: Sequence[Finding]
) -> None:
    table = Table("split", "images", "errors", "warnings", "height", "width", "labelled")
    for column in table.columns[1:]:
        column.justify = "right"
    for split in dict.fromkeys((*datasets, *(finding.split for finding in findings))):
        here = [sample for sample in samples if sample.split == split]
        told = Counter(finding.severity for finding in findings if finding.split == split)
        height, width = (_range([sample.size[axis] for sample in here if sample.size]) for axis in (0, 1))
        every = sum(sum(sample.pixels) for sample in here)
        labelled = sum(sum(sample.pixels[:-1]) for sample in here)
        share = f"{labelled / every:.1%}" if every and _labelled(datasets[split]) else "-"
        row = (f"{len(here):,}", str(told["error"]), str(told["warning"]), _words(height), _words(width), share)
        table.add_row(split, *row)
    console = Console()
    console.print(table)
    by_kind: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    for kind, found in by_kind.items():
        # Plain lines, and not a table's cells, which would break the paths.
        print(f"\n{KINDS[kind]}: {kind}, {len(found):,}")
        for finding in found[:SHOWN]:
            print(f"  {finding.text}")
        if len(found) > SHOWN:
            print(f"  and {len(found) - SHOWN:,} more, see check.json")
    print()


def _range(values: Sequence[int]) -> tuple[int, int, int] | None:
    """Least, median and greatest."""
    return (min(values), int(np.median(values)), max(values)) if values else None


def _words(found: tuple[int, int, int] | None) -> str:
    if found is None:
        return "-"
    least, median, greatest = found
    return str(median) if least == greatest else f"{least}-{greatest} ({median})"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _as_json(
    name: str,
    datasets: Mapping[str, SegmentationDataset],
    samples: Sequence[Inspected],
    findings: Sequence[Finding],
    ready: bool,
) -> dict[str, Any]:
    splits = {}
    for split in datasets:
        here = [sample for sample in samples if sample.split == split]
        splits[split] = {
            "images": len(here),
            "height": _range([sample.size[0] for sample in here if sample.size]),
            "width": _range([sample.size[1] for sample in here if sample.size]),
            "pixels": _pixels(samples, datasets, split).tolist(),
            "ignored": sum(sample.pixels[-1] for sample in here),
        }
    facts: DataFacts | None = next((dataset.facts for dataset in datasets.values()), None)
    return {
        "dataset": name,
        "ready": ready,
        "class_names": list(facts.class_names) if facts else [],
        "splits": splits,
        "findings": [
            {"severity": finding.severity, "kind": finding.kind, "split": finding.split, "text": finding.text}
            for finding in findings
        ],
    }

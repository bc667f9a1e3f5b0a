"""Runs put in order: sections of one set of test images, rows of one model and settings, seeds within a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastfcn.report.comparison import frozen, tested_on, variants
from fastfcn.report.estimates import Estimate, estimate
from fastfcn.report.runs import Run

#: Table 1 of the paper, then what came later; anything else follows in the order of the alphabet.
UPSAMPLERS = (
    "none", "bilinear", "fpn", "jpu", "jpu_x", "bilinear_skip", "guided", "carafe", "sapa", "dysample",
)  # fmt: skip
HEADS = ("encoding", "aspp", "psp", "fcn")
DATA = ("pascal_context", "ade20k")


class Row(NamedTuple):
    """A row of a table: one model trained with one set of settings, by one or several seeds.

    Attributes:
        head: option of conf/head.
        upsample: option of conf/upsample.
        backbone: option of conf/backbone, or timm's name of it.
        settings: in which it differs from other rows of the same three; mostly empty.
        runs: by their seeds.
    """

    head: str
    upsample: str
    backbone: str
    settings: tuple[tuple[str, Any], ...]
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[int]:
        """Of the runs."""
        return [run.seed for run in self.runs]

    @property
    def output_stride(self) -> int:
        """Of the backbone."""
        config = self.runs[0].config
        stride = config.get("backbone", {}).get("output_stride", config.get("output_stride"))
        return int(stride if stride is not None else 8 if self.upsample == "none" else 32)

    def by_seed(self, metric: str) -> dict[int, float]:
        """A figure of the test by seed, where it was measured."""
        return {run.seed: float(value) for run in self.runs if (value := run.test.get(metric)) is not None}

    def estimate(self, metric: str) -> Estimate | None:
        """The mean of a figure over the seeds; None where it was not measured."""
        values = self.by_seed(metric)
        return estimate(list(values.values())) if values else None


class Section(NamedTuple):
    """Rows that were tested on the same images in the same way.

    Attributes:
        data: option of conf/data.
        protocol: how the test was taken; None for rows of speed alone.
        rows: in the paper's order.
    """

    data: str
    protocol: str | None
    rows: list[Row]


class Duplicate(NamedTuple):
    """A run that is left out because a newer one of the same row and seed is there.

    Attributes:
        directory: of the one left out.
        kept: directory of the newer one.
        copy: whether it holds the same figures: the same run twice.
    """

    directory: Path
    kept: Path
    copy: bool


def arrange(runs: Sequence[Run]) -> tuple[list[Section], list[Duplicate]]:
    """Sort runs into sections, rows and seeds; of several runs of one row and seed the newest counts."""
    sections: dict[str, list[Run]] = {}
    for run in runs:
        # A run without a test measured its speed: a table of its own, whatever data it was configured with.
        key = frozen(tested_on(run).items()) if run.test else f"speed {run.data}"
        sections.setdefault(key, []).append(run)
    found, duplicates = [], []
    for members in sections.values():
        rows, left_out = _rows(members)
        duplicates += left_out
        first = members[0]
        found.append(Section(first.data, first.protocol if first.test else None, rows))
    found.sort(key=lambda section: (section.protocol is None, _place(section.data, DATA), section.protocol or ""))
    return found, sorted(duplicates)


def labels(rows: Sequence[Row]) -> list[str]:
    """A short name for each row, unlike all others: the upsampler, and what else the rows differ in."""
    parts = [p for p in ("head", "upsample", "backbone") if p == "upsample" or len({getattr(r, p) for r in rows}) > 1]

    def name(row: Row) -> str:
        settings = [f"{key}={'null' if value is None else value}" for key, value in row.settings]
        return " ".join([*(getattr(row, part) for part in parts), *settings])

    return [name(row) for row in rows]


def run_labels(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """A name for each run of the rows, in order: the row's, with the seed where there are several."""
    several = len({seed for row in rows for seed in row.seeds}) > 1
    return [
        f"{name} s{run.seed}" if several else name for row, name in zip(rows, names, strict=True) for run in row.runs
    ]


def references(rows: Sequence[Row]) -> list[int]:
    """The index of the row that each row is compared with.

    It has the same head and backbone and upsample=none, and the same settings where there is such a one; without a
    ``none`` it is the first row with this head and backbone.
    """

    def reference(row: Row) -> int:
        group = [i for i, other in enumerate(rows) if (other.head, other.backbone) == (row.head, row.backbone)]
        rivals = [i for i in group if rows[i].upsample == "none"] or group[:1]
        return max(rivals, key=lambda i: len(set(_texts(rows[i])) & set(_texts(row))))

    return [index if row.upsample == "none" else reference(row) for index, row in enumerate(rows)]


def _texts(row: Row) -> list[str]:
    return [f"{key}={value}" for key, value in row.settings]


def _rows(runs: Iterable[Run]) -> tuple[list[Row], list[Duplicate]]:
    alike: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.backbone, run.head, run.upsample), []).append(run)
    rows, duplicates = [], []
    for (backbone, head, upsample), members in alike.items():
        differing = variants(members)
        split: dict[str, tuple[tuple[tuple[str, Any], ...], list[Run]]] = {}
        for index, run in enumerate(members):
            settings = tuple((key, values[index]) for key, values in differing.items())
            split.setdefault(frozen(settings), (settings, []))[1].append(run)
        for settings, same in split.values():
            kept, left_out = _newest(same)
            duplicates += left_out
            rows.append(Row(head, upsample, backbone, settings, tuple(kept)))
    return sorted(rows, key=_paper_order), duplicates


def _newest(runs: Sequence[Run]) -> tuple[list[Run], list[Duplicate]]:
    """One run per seed: the one that ended last; of equals, the first by its directory."""
    by_seed: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: str(run.directory)):
        by_seed.setdefault(run.seed, []).append(run)
    kept, duplicates = [], []
    for seed in sorted(by_seed):
        newest, *older = sorted(by_seed[seed], key=lambda run: run.ended, reverse=True)
        kept.append(newest)
        duplicates += [Duplicate(run.directory, newest.directory, run.results == newest.results) for run in older]
    return kept, duplicates


def _paper_order(row: Row) -> tuple[Any, ...]:
    # resnet50 stands before resnet101
    backbone = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", row.backbone)
    )
    return backbone, _place(row.head, HEADS), _place(row.upsample, UPSAMPLERS), frozen(row.settings)


def _place(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known), name)

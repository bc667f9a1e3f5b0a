"""All that a report tells, gathered before a word of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from fastfcn.report.costs import Costs
from fastfcn.report.figure import Choice
from fastfcn.report.gathering import Sweep
from fastfcn.report.missing import Missing
from fastfcn.report.rows import Duplicate, Row, Section
from fastfcn.report.runs import Unfinished
from fastfcn.report.speed import Speed
from fastfcn.types import DataFacts


class Timing(NamedTuple):
    """How the latency was measured: rounds, device, and whether in NHWC memory."""

    warmup: int
    repeats: int
    device: torch.device
    channels_last: bool


class Picture(NamedTuple):
    """The picture of what the rows get wrong.

    Attributes:
        file: its name in the report's directory.
        shown: indices of the rows that it shows.
        seeds: of the run that stands for each of these.
        chosen: its images.
        candidates: number of test images that they were chosen among.
    """

    file: str
    shown: Sequence[int]
    seeds: Sequence[int]
    chosen: Sequence[Choice]
    candidates: int


class Measured(NamedTuple):
    """What the report found out with models and test images at hand.

    Attributes:
        costs: one per row; None for a row without a checkpoint at hand.
        facts: of the data set.
        tested: number of images in the test split.
        size: (height, width) of the first test image in pixels.
        timing: how the latency was measured; None where it was not.
        picture: None where none was asked for.
    """

    costs: Sequence[Costs | None]
    facts: DataFacts
    tested: int
    size: tuple[int, int]
    timing: Timing | None
    picture: Picture | None

    @property
    def pixels(self) -> str:
        """The size in words."""
        return f"{self.size[0]} x {self.size[1]}"


class Part(NamedTuple):
    """What the report tells of one section.

    Attributes:
        section: its rows, in the order of the table.
        names: a short one per row.
        run_names: one per run, row by row.
        reference: per row the index of the one that it is compared with.
        speeds: one per row.
        measured: None where no checkpoint was opened.
        notes: sentences on what could not be done.
        scatter: file name of the picture of mIoU against FPS; None where there is none.
    """

    section: Section
    names: Sequence[str]
    run_names: Sequence[str]
    reference: Sequence[int]
    speeds: Sequence[Speed | None]
    measured: Measured | None = None
    notes: Sequence[str] = ()
    scatter: str | None = None

    @property
    def rows(self) -> list[Row]:
        """Of the section."""
        return self.section.rows

    @property
    def tested(self) -> bool:
        """Whether its runs were tested; else they measured their speed alone."""
        return self.section.protocol is not None

    @property
    def costs(self) -> Sequence[Costs | None]:
        """One per row."""
        return self.measured.costs if self.measured else [None] * len(self.rows)

    @property
    def data(self) -> str:
        """The data set's name."""
        return self.measured.facts.name if self.measured else self.section.data

    @property
    def thin_classes(self) -> tuple[str, ...]:
        """As the data set has them, else as the runs were configured."""
        if self.measured:
            return self.measured.facts.thin_classes
        return tuple(self.rows[0].runs[0].config["data"].get("dataset", {}).get("thin_classes") or ())

    @property
    def several_seeds(self) -> bool:
        """Whether any row has more than one."""
        return any(len(row.runs) > 1 for row in self.rows)

    @property
    def groups(self) -> list[list[int]]:
        """Indices of the rows that are compared with one another: the same head and backbone."""
        found: dict[tuple[str, str], list[int]] = {}
        for index, row in enumerate(self.rows):
            found.setdefault((row.head, row.backbone), []).append(index)
        return list(found.values())


class Report(NamedTuple):
    """All that the report tells.

    Attributes:
        parts: one per section.
        unfinished: runs without figures.
        duplicates: runs left out for newer ones.
        missing: runs that were meant to be and are not, with their commands.
        sweeps: that the runs belong to.
        out: the report's directory.
    """

    parts: Sequence[Part]
    unfinished: Sequence[Unfinished]
    duplicates: Sequence[Duplicate]
    missing: Sequence[Missing]
    sweeps: Sequence[Sweep]
    out: Path

"""All that a report tells, gathered before a word of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from fastfcn.report.costs import Costs
from fastfcn.report.figure import Choice
from fastfcn.report.runs import Incomplete, Run
from fastfcn.types import DataFacts


class Timing(NamedTuple):
    """How the latency was measured: rounds, device, and whether in NHWC memory."""

    warmup: int
    repeats: int
    device: torch.device
    channels_last: bool


class Report(NamedTuple):
    """All that the report tells.

    Attributes:
        runs: in the order of the table.
        names: a short one per run.
        reference: per run the index of the one that it is compared with.
        costs: one per run.
        chosen: the images of the picture.
        candidates: number of test images that they were chosen among.
        facts: of the data set.
        tested: number of images in the test split.
        size: (height, width) of the first test image in pixels.
        timing: how the latency was measured.
        incomplete: runs left out.
        out: the report's directory.
        picture: the picture's file name in it.
    """

    runs: Sequence[Run]
    names: Sequence[str]
    reference: Sequence[int]
    costs: Sequence[Costs]
    chosen: Sequence[Choice]
    candidates: int
    facts: DataFacts
    tested: int
    size: tuple[int, int]
    timing: Timing
    incomplete: Sequence[Incomplete]
    out: Path
    picture: str

    @property
    def pixels(self) -> str:
        """The size in words."""
        return f"{self.size[0]} x {self.size[1]}"

    @property
    def groups(self) -> list[list[int]]:
        """Indices of the runs that are compared with one another: the same head and backbone."""
        found: dict[tuple[str, str], list[int]] = {}
        for index, run in enumerate(self.runs):
            found.setdefault((run.head, run.backbone), []).append(index)
        return list(found.values())

"""Which models a task measures: the chosen one, the rows of the paper's Table 2, or all upsamplers."""

from __future__ import annotations

from typing import NamedTuple

from fastfcn.benchmarks.bench import Bench
from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.report import paper
from fastfcn.report.rows import UPSAMPLERS


class Named(NamedTuple):
    """A model by the names of its groups' options.

    Attributes:
        backbone: of conf/backbone.
        upsample: of conf/upsample.
        head: of conf/head.
    """

    backbone: str
    upsample: str
    head: str

    @property
    def label(self) -> str:
        """In tables."""
        return f"{self.head} {self.upsample} {self.backbone}"

    @property
    def fps(self) -> float | None:
        """The paper's, of Table 2."""
        return paper.TABLE_2.get((paper.depth(self.backbone) or 0, self.head, self.upsample))

    @property
    def miou(self) -> float | None:
        """The paper's, of Table 1, percent: Pascal Context val, ResNet-50, one scale."""
        quality = paper.TABLE_1.get((self.head, self.upsample)) if paper.depth(self.backbone) == 50 else None
        return None if quality is None else quality.miou


def chosen(bench: Bench) -> Named:
    """The model of the configuration's groups."""
    return Named(bench.chosen["backbone"], bench.chosen["upsample"], bench.chosen["head"])


def groups_of_table_2(depths: tuple[int, ...]) -> list[list[Named]]:
    """Table 2's rows, and JPU_X with each depth: models of one head and depth together, the dilated one first.

    Raises:
        UserError: A depth that the table has not.
    """
    _need_depths(depths)
    groups: dict[tuple[int, str], list[Named]] = {}
    for depth, head, upsample in paper.TABLE_2:
        if depth in depths:
            groups.setdefault((depth, head), []).append(Named(f"resnet{depth}s", upsample, head))
    for (depth, head), members in groups.items():
        if head == "encoding":
            members.append(Named(f"resnet{depth}s", "jpu_x", head))
    return list(groups.values())


def groups_of_upsamplers(depths: tuple[int, ...]) -> list[list[Named]]:
    """Every upsampler of this project behind the Encoding head; models of one depth together, the dilated one first.

    Raises:
        UserError: A depth that Table 2 has not.
    """
    _need_depths(depths)
    return [[Named(f"resnet{depth}s", upsample, "encoding") for upsample in UPSAMPLERS] for depth in depths]


def _need_depths(depths: tuple[int, ...]) -> None:
    if not depths or not set(depths) <= {50, 101}:
        raise UserError(f"task.depths={list(depths)}: choose among 50 and 101, the depths of Table 2.")


def build(bench: Bench, named: Named, *, num_classes: int | None = None) -> FastFCN:
    """The model: with the configuration's own settings where it is the chosen one, else with the groups' defaults."""
    if named == chosen(bench):
        return bench.model(num_classes=num_classes)
    return bench.model(**named._asdict(), num_classes=num_classes)

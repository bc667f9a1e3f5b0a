"""Which of the paper's claims the runs support: each by a difference or ratio with its interval, and a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fastfcn.report import paper
from fastfcn.report.estimates import difference
from fastfcn.report.rows import Row
from fastfcn.report.speed import Speed

HOLDS, OPEN, FAILS = "holds", "not decided", "does not hold"

#: In mIoU, better and worse: Table 1 and section 4.2.
_ORDER = (("jpu", "none"), ("jpu", "fpn"), ("jpu", "bilinear"), ("fpn", "bilinear"), ("none", "bilinear"))

_HEADS = {"encoding": "Encoding", "aspp": "ASPP", "psp": "PSP", "fcn": "FCN"}


class Claim(NamedTuple):
    """A claim of the paper, what the runs give for it, and whether it holds by them."""

    claim: str
    evidence: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.evidence}: {self.verdict}"


def claims(rows: Sequence[Row], names: Sequence[str], speeds: Sequence[Speed | None]) -> list[Claim]:
    """What the paper claims of these rows, head by head: the order in mIoU, and the speed of JPU.

    Args:
        rows: of a section.
        names: one per row.
        speeds: one per row.
    """
    found = []
    for group in _groups(rows):
        found += [_quality(rows, better, worse, where) for better, worse, where in _pairs(rows, names, group, _ORDER)]
        for fast, slow, where in _pairs(rows, names, group, (("jpu", "none"),)):
            ours, theirs = speeds[fast], speeds[slow]
            if ours is not None and theirs is not None and ours.where == theirs.where:
                found.append(_speed(rows[fast], rows[slow], ours, theirs, where))
    return [claim for claim in found if claim is not None]


def _groups(rows: Sequence[Row]) -> list[list[int]]:
    """Rows that differ in the upsampler alone: the same head, backbone and settings."""
    found: dict[tuple[object, ...], list[int]] = {}
    for index, row in enumerate(rows):
        # settings of an upsampler are its own; a choice between two widths of JPU is not the paper's claim
        shared = tuple(f"{key}={value}" for key, value in row.settings if not key.startswith("upsample."))
        found.setdefault((row.head, row.backbone, shared), []).append(index)
    return list(found.values())


def _pairs(
    rows: Sequence[Row], names: Sequence[str], group: Sequence[int], order: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, int, str]]:
    several = len({row.backbone for row in rows}) > 1
    for better, worse in order:
        for first in (i for i in group if rows[i].upsample == better):
            for second in (i for i in group if rows[i].upsample == worse):
                row = rows[first]
                where = f"under {_HEADS.get(row.head, row.head)}" + (f" with {row.backbone}" if several else "")
                if row.settings or rows[second].settings:
                    where += f" (`{names[first]}` against `{names[second]}`)"
                yield first, second, where


def _quality(rows: Sequence[Row], better: int, worse: int, where: str) -> Claim | None:
    ours, theirs = rows[better], rows[worse]
    found = difference(ours.by_seed("mIoU"), theirs.by_seed("mIoU"))
    if found is None:
        return None
    claim = f"{ours.upsample} >= {theirs.upsample} in mIoU {where}"
    mean, low, high, count = (100 * found.estimate.mean, found.estimate.low, found.estimate.high, found.estimate.n)
    if low is None or high is None:
        seeds = "one seed in common, no interval" if found.paired else "no seed in common, no interval"
        return Claim(claim, f"{mean:+.2f} points, {seeds}", OPEN)
    verdict = HOLDS if low >= 0 else FAILS if high < 0 else OPEN
    return Claim(claim, f"{mean:+.2f} [{100 * low:.2f}, {100 * high:.2f}] points, {count} seeds", verdict)


def _speed(ours: Row, theirs: Row, fast: Speed, slow: Speed, where: str) -> Claim:
    """Settled where the middle 80% of the two models' times do not overlap."""
    (_, p10, p90), (_, slow_p10, slow_p90) = fast.milliseconds, slow.milliseconds
    verdict = HOLDS if p90 < slow_p10 else FAILS if p10 > slow_p90 else OPEN
    table: Mapping[tuple[int, str, str], float] = paper.TABLE_2
    depth = paper.depth(ours.backbone) or 50
    said = ""
    if (depth, ours.head, "jpu") in table and (depth, ours.head, "none") in table:
        ratio = table[depth, ours.head, "jpu"] / table[depth, ours.head, "none"]
        said = f" (paper, ResNet-{depth} on a Titan Xp: {ratio:.2f})"
    claim = f"{ours.upsample} faster than {theirs.upsample} {where}"
    return Claim(claim, f"{fast.fps / slow.fps:.2f} times the FPS{said}", verdict)

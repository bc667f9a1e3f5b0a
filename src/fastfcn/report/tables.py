"""The figures of several rows as columns, written as Markdown or printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from fastfcn.report.costs import Costs
from fastfcn.report.estimates import Difference, Estimate, difference
from fastfcn.report.rows import Row
from fastfcn.results import percent

#: The metrics of the report: name in ``results.json`` -> heading.
METRICS = {"pixAcc": "pixAcc", "mIoU": "mIoU", "boundary_IoU": "boundary IoU", "thin_IoU": "thin-class IoU"}


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: first line.
        cells: one per row.
        text: whether it is words, set to the left, and not numbers.
    """

    heading: str
    cells: tuple[str, ...]
    text: bool = False


def identity(names: Sequence[str], rows: Sequence[Row]) -> list[Column]:
    """What each row is; the backbone where they differ in it, the seeds where there are several."""
    columns = [
        Column("row", tuple(names), text=True),
        Column("head", tuple(row.head for row in rows), text=True),
        Column("output stride", tuple(str(row.output_stride) for row in rows)),
        Column("upsampler", tuple(row.upsample for row in rows), text=True),
    ]
    if len({row.backbone for row in rows}) > 1:
        columns.insert(1, Column("backbone", tuple(row.backbone for row in rows), text=True))
    if any(len(row.runs) > 1 for row in rows):
        columns.append(Column("seeds", tuple(str(len(row.runs)) for row in rows)))
    return columns


def quality(rows: Sequence[Row], reference: Sequence[int]) -> list[Column]:
    """The metrics in percent, mean ± half the interval; in brackets the difference from the reference, in points."""
    columns = []
    for name, heading in METRICS.items():
        estimates = [row.estimate(name) for row in rows]
        cells = []
        for index, (row, found, other) in enumerate(zip(rows, estimates, reference, strict=True)):
            gain = None if index == other else difference(row.by_seed(name), rows[other].by_seed(name))
            cells.append(spread(found) + (f" ({points(gain.estimate.mean)})" if gain else ""))
        if any(found is not None for found in estimates):
            columns.append(Column(heading, tuple(cells)))
    return columns


def expense(costs: Sequence[Costs | None], reference: Sequence[int]) -> list[Column]:
    """Parameters, operations and time; in brackets the ratio to the reference. None where nothing was counted."""
    if all(cost is None for cost in costs):
        return []
    columns = [
        relative("parameters (M)", [None if c is None else c.parameters / 1e6 for c in costs], reference),
        relative("GFLOPs", [None if c is None else c.gflops for c in costs], reference),
    ]
    taken = [None if cost is None else cost.latency for cost in costs]
    if any(latency is not None for latency in taken):
        columns.append(relative("latency (ms)", [None if t is None else t.median for t in taken], reference))
        between = tuple("-" if t is None else f"{t.p10:,.2f} to {t.p90:,.2f}" for t in taken)
        columns.append(Column("p10 to p90 (ms)", between))
    return columns


def differences(rows: Sequence[Row], names: Sequence[str], reference: Sequence[int]) -> list[Column]:
    """Each row against its reference, paired by seed, points; whether the interval leaves 0 out."""
    compared = [(i, other) for i, other in enumerate(reference) if i != other]
    columns = [
        Column("row", tuple(names[i] for i, _ in compared), text=True),
        Column("against", tuple(names[other] for _, other in compared), text=True),
    ]
    pairs = [len(set(rows[i].seeds) & set(rows[other].seeds)) for i, other in compared]
    columns.append(Column("seeds in common", tuple(map(str, pairs))))
    for name, heading in METRICS.items():
        found = [difference(rows[i].by_seed(name), rows[other].by_seed(name)) for i, other in compared]
        if any(each is not None for each in found):
            columns.append(Column(heading, tuple(interval(each) for each in found)))
            if name == "mIoU":
                columns.append(Column("0 excluded", tuple(_excluded(each) for each in found), text=True))
    return columns


def per_class(names: Sequence[str], rows: Sequence[Row], *, thin: Sequence[str]) -> list[Column]:
    """IoU in percent, the mean over the seeds: one line per class, one column per row."""
    classes = list(dict.fromkeys(name for row in rows for run in row.runs for name in run.test["IoU"]))
    shown = tuple(f"{name} (thin)" if name in thin else name for name in classes)

    def mean(row: Row, label: str) -> float | None:
        known = [iou for run in row.runs if (iou := run.test["IoU"].get(label)) is not None]
        return fmean(known) if known else None

    columns = [
        Column(name, tuple(percent(mean(row, label)) for label in classes))
        for name, row in zip(names, rows, strict=True)
    ]
    return [Column("class", shown, text=True), *columns]


def markdown(columns: Sequence[Column]) -> str:
    """A Markdown table whose source is in line too."""
    padded = []
    for column in columns:
        cells = [cell.replace("|", "\\|") for cell in (column.heading, *column.cells)]
        width = max(3, *map(len, cells))
        cells = [cell.ljust(width) if column.text else cell.rjust(width) for cell in cells]
        cells.insert(1, "-" * width if column.text else "-" * (width - 1) + ":")
        padded.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in zip(*padded, strict=True))


def printed(columns: Sequence[Column], *, title: str) -> Table:
    """The table for the terminal."""
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.text else "right")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def times(value: float, reference: float) -> str:
    """A ratio: ``×0.43``."""
    return f"×{value / reference:.2f}"


def points(value: float) -> str:
    """A difference of fractions in percentage points."""
    return f"{100 * value:+.2f}"


def spread(found: Estimate | None) -> str:
    """Percent with half the interval where there is one: ``39.52 ± 0.80``."""
    if found is None or found.half is None:
        return percent(None if found is None else found.mean)
    return f"{percent(found.mean)} ± {percent(found.half)}"


def interval(found: Difference | None) -> str:
    """Points with the interval: ``+1.20 [0.30, 2.10]``; without one the difference alone."""
    if found is None:
        return "-"
    taken = found.estimate
    if taken.low is None or taken.high is None:
        return points(taken.mean)
    return f"{points(taken.mean)} [{percent(taken.low)}, {percent(taken.high)}]"


def number(value: float | None, decimals: int = 2) -> str:
    """A number with commas; a dash for None."""
    return "-" if value is None else f"{value:,.{decimals}f}"


def relative(
    heading: str,
    values: Sequence[float | None],
    reference: Sequence[int],
    show: Callable[[float | None], str] = number,
) -> Column:
    """Each value, and in brackets its ratio to the reference's; a reference stands alone."""
    cells = []
    for index, (value, other) in enumerate(zip(values, reference, strict=True)):
        base = values[other]
        alone = index == other or value is None or base is None
        cells.append(show(value) if alone else f"{show(value)} ({times(value, base)})")  # type: ignore[arg-type]
    return Column(heading, tuple(cells))


def _excluded(found: Difference | None) -> str:
    answers: Mapping[bool | None, str] = {True: "yes", False: "no", None: "no interval"}
    return answers[None if found is None else found.estimate.excludes_zero]

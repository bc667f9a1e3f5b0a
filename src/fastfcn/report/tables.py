"""The figures of several runs as columns, written as Markdown or printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from fastfcn.report.costs import Costs
from fastfcn.report.runs import Run
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


def identity(names: Sequence[str], runs: Sequence[Run], costs: Sequence[Costs]) -> list[Column]:
    """What each run is."""
    return [
        Column("run", tuple(names), text=True),
        Column("head", tuple(run.head for run in runs), text=True),
        Column("output stride", tuple(str(cost.output_stride) for cost in costs)),
        Column("upsampler", tuple(run.upsample for run in runs), text=True),
    ]


def quality(runs: Sequence[Run], reference: Sequence[int]) -> list[Column]:
    """The metrics in percent; in brackets the difference from the reference, in points."""
    return [
        _relative(heading, [run.results["test"].get(name) for run in runs], reference, percent, _points)
        for name, heading in METRICS.items()
        if any(run.results["test"].get(name) is not None for run in runs)
    ]


def expense(costs: Sequence[Costs], reference: Sequence[int]) -> list[Column]:
    """Parameters, operations and time; in brackets the ratio to the reference."""

    def two_decimals(value: float | None) -> str:
        return f"{value:,.2f}"

    return [
        _relative("parameters (M)", [cost.parameters / 1e6 for cost in costs], reference, two_decimals, times),
        _relative("GFLOPs", [cost.gflops for cost in costs], reference, two_decimals, times),
        _relative("latency (ms)", [cost.latency.median for cost in costs], reference, two_decimals, times),
        Column("p10 to p90 (ms)", tuple(f"{cost.latency.p10:,.2f} to {cost.latency.p90:,.2f}" for cost in costs)),
    ]


def per_class(names: Sequence[str], runs: Sequence[Run], *, thin: Sequence[str]) -> list[Column]:
    """IoU in percent: one row per class, one column per run."""
    classes = list(runs[0].results["test"]["IoU"])
    shown = tuple(f"{name} (thin)" if name in thin else name for name in classes)
    ious: Iterable[Mapping[str, float | None]] = (run.results["test"]["IoU"] for run in runs)
    columns = [
        Column(name, tuple(percent(iou[each]) for each in classes)) for name, iou in zip(names, ious, strict=True)
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
    return f"×{value / reference:.2f}"  # noqa: RUF001 - the sign is meant


def _points(value: float, reference: float) -> str:
    return f"{100 * (value - reference):+.2f}"


def _relative(
    heading: str,
    values: Sequence[float | None],
    reference: Sequence[int],
    show: Callable[[float | None], str],
    compare: Callable[[float, float], str],
) -> Column:
    """Each value, and in brackets how it compares with its reference; a reference stands alone."""
    cells = []
    for index, (value, other) in enumerate(zip(values, reference, strict=True)):
        base = values[other]
        alone = index == other or value is None or base is None
        cells.append(show(value) if alone else f"{show(value)} ({compare(value, base)})")  # type: ignore[arg-type]
    return Column(heading, tuple(cells))

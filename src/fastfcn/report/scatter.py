"""The picture of mIoU against images per second: a colour per upsampler, a mark per head, the paper's points hollow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastfcn.pictures import save_figure
from fastfcn.report import paper
from fastfcn.report.contents import Part
from fastfcn.report.label_places import place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito's colours, then Tol's, which colour-blind readers tell apart; others go round the rest.
_COLOURS = {"none": "#000000", "bilinear": "#E69F00", "fpn": "#56B4E9", "jpu": "#D55E00", "jpu_x": "#009E73"}
_COLOURS |= {
    "bilinear_skip": "#CC79A7",
    "guided": "#999999",
    "carafe": "#0072B2",
    "sapa": "#882255",
    "dysample": "#DDCC77",
}
_MORE_COLOURS = ("#44AA99", "#AA4499", "#661100")
_MARKS = {"encoding": "o", "aspp": "s", "psp": "^", "fcn": "D"}
_MORE_MARKS = ("v", "P", "X")

_DPI = 200

#: Where the fastest is so many times as fast as the slowest, the axis of speed is logarithmic.
_WIDE = 6


class Point(NamedTuple):
    """One mark.

    Attributes:
        label: beside it.
        head: gives the mark.
        upsample: gives the colour.
        fps: images per second.
        miou: percent.
        half: half the interval in points; None where there is none.
        hollow: whether it is the paper's.
    """

    label: str
    head: str
    upsample: str
    fps: float
    miou: float
    half: float | None
    hollow: bool = False


def points(part: Part) -> list[Point]:
    """The rows that have both figures, as far as their speeds were measured in one way: the commonest."""
    places = [speed.where for speed in part.speeds if speed is not None]
    where = max(dict.fromkeys(places), key=places.count, default=None)
    found = []
    for row, name, speed in zip(part.rows, part.names, part.speeds, strict=True):
        taken = row.estimate("mIoU")
        if speed is not None and speed.where == where and taken is not None:
            half = None if taken.half is None else 100 * taken.half
            found.append(Point(name, row.head, row.upsample, speed.fps, 100 * taken.mean, half))
    return found


def paper_points() -> list[Point]:
    """ResNet-50 on Pascal Context: the rows of which Table 1 gives the mIoU and Table 2 the FPS."""
    return [
        Point(f"{head} {upsample}", head, upsample, fps, paper.TABLE_1[head, upsample].miou, None, hollow=True)
        for (depth, head, upsample), fps in paper.TABLE_2.items()
        if depth == 50 and (head, upsample) in paper.TABLE_1
    ]


def draw(part: Part, path: Path) -> bool:
    """Draw the rows, and the paper's points: among them where they are comparable, else in a panel of their own.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ours = points(part)
    if not ours:
        return False
    theirs = paper_points()
    together = paper.beside(part.section).comparable and part.section.data == "pascal_context"
    where = next(speed.where for speed in part.speeds if speed is not None and speed.fps == ours[0].fps)
    figure = Figure(figsize=(6.4, 4.6) if together else (10.6, 4.6), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    split = part.rows[0].runs[0].config["data"].get("split") or "test"
    panels = [(f"{part.data}, {split}", where, [*ours, *theirs] if together else ours)]
    if together:
        panels[0] = ("Pascal Context val", f"{where}; hollow: the paper, Titan Xp, 512 x 512", panels[0][2])
    else:
        panels.append(("the paper: Pascal Context val, ResNet-50", "Titan Xp, 512 x 512 pixels", theirs))
    for axes, (title, below, shown) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        _panel(axes, title, below, shown)
    handles = _legend([*ours, *theirs])
    figure.legend(handles=handles, loc="outside lower center", ncols=5 if together else 10, frameon=False, fontsize=8)
    figure.canvas.draw()  # sizes are known from here on
    for axes, (_, _, shown) in zip(figure.axes, panels, strict=True):
        place(axes, [(p.label, p.fps, p.miou, p.half or 0.0) for p in shown])
    save_figure(figure, path)
    return True


def _panel(axes: Axes, title: str, below: str, shown: Sequence[Point]) -> None:
    from matplotlib.ticker import LogFormatter

    for point in shown:
        axes.errorbar(
            point.fps, point.miou, yerr=point.half, color=_colour(point), marker=_mark(point), markersize=7,
            markerfacecolor="none" if point.hollow else _colour(point), markeredgewidth=1.4, linewidth=1.2, capsize=3,
        )  # fmt: skip
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(f"images per second\n{below}", fontsize=9)
    axes.set_ylabel("mIoU, %", fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    axes.margins(x=0.2, y=0.16)
    speeds = [point.fps for point in shown]
    if max(speeds) > _WIDE * min(speeds):
        axes.set_xscale("log")
        for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis(LogFormatter(minor_thresholds=(2, 1)))
    elif axes.get_xlim()[0] < 0:
        axes.set_xlim(left=0)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(shown: Sequence[Point]) -> list[object]:
    from matplotlib.lines import Line2D

    upsamplers = dict.fromkeys(point.upsample for point in shown)
    heads = dict.fromkeys(point.head for point in shown)
    by_colour = {point.upsample: _colour(point) for point in shown}
    by_mark = {point.head: _mark(point) for point in shown}
    return [
        *(Line2D([], [], color=by_colour[u], linewidth=4, label=u) for u in upsamplers),
        *(Line2D([], [], color="#555555", marker=by_mark[h], linestyle="", label=h) for h in heads),
        Line2D([], [], color="#555555", marker="o", markerfacecolor="white", linestyle="", label="paper (hollow)"),
        *(
            [Line2D([], [], color="#555555", marker="|", markersize=11, linestyle="", label="95% interval over seeds")]
            if any(point.half is not None for point in shown)
            else []
        ),
    ]


def _colour(point: Point) -> str:
    return _COLOURS.get(point.upsample) or _MORE_COLOURS[sum(map(ord, point.upsample)) % len(_MORE_COLOURS)]


def _mark(point: Point) -> str:
    return _MARKS.get(point.head) or _MORE_MARKS[sum(map(ord, point.head)) % len(_MORE_MARKS)]

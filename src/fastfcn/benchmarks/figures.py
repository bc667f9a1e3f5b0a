"""The benchmarks' plots: images per second against mIoU, and time against the size of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastfcn.benchmarks.fits import Fit
from fastfcn.benchmarks.measuring import Measured
from fastfcn.benchmarks.models_measured import Named
from fastfcn.pictures import save_png
from fastfcn.report.label_places import place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 200

#: Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#999999")


def fps_and_miou(found: Mapping[Named, Sequence[Measured]], path: Path, *, below: str) -> bool:
    """Our speeds against the paper's mIoU of the same model, its own speeds hollow beside them.

    Args:
        found: what was measured, by model.
        path: of the PNG file.
        below: where ours was measured.

    Returns:
        Whether a model had both figures.
    """
    known = {named: measured for named, measured in found.items() if named.miou is not None and named.fps is not None}
    if not known:
        return False
    figure, canvas = _figure(10.6)
    left, right = figure.subplots(1, 2, sharey=True)
    labelled = []
    for index, name in enumerate(dict.fromkeys(each.name for measured in known.values() for each in measured)):
        points = [
            (each.per_second, named.miou, f"{named.head} {named.upsample}")
            for named, measured in known.items()
            for each in measured
            if each.name == name and each.per_second is not None and named.miou is not None
        ]
        if points:
            x, y, _ = zip(*points, strict=True)
            left.plot(x, y, _mark(index), color=_COLOURS[index % len(_COLOURS)], label=name, markersize=6)
            labelled += [(label, fps, miou, 0.0) for fps, miou, label in points]
    theirs = [(f"{n.head} {n.upsample}", n.fps, n.miou, 0.0) for n in known if n.fps is not None and n.miou is not None]
    right.plot([p[1] for p in theirs], [p[2] for p in theirs], "o", color="#555555", markerfacecolor="none")
    _dress(left, "ours, random weights: speed alone is ours", f"images per second\n{below}", "the paper's mIoU, %")
    _dress(right, "the paper", "images per second\nTitan Xp, 512 x 512 pixels, batch 1", "")
    for axes in (left, right):
        axes.margins(x=0.25, y=0.25)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    canvas.draw()
    if len(known) > 1:  # else all are of one model, and the legend tells which is which
        place(left, labelled, size=7)
    place(right, theirs, size=7)
    _save(canvas, path)
    return True


def time_and_size(curves: Mapping[str, Sequence[tuple[int, Measured]]], fits: Mapping[str, Fit], path: Path) -> bool:
    """Time of a call against the pixels of an image, on logarithmic axes, with the fitted lines.

    Args:
        curves: by arm, (pixels, what was measured) by growing size.
        fits: by arm.
        path: of the PNG file.

    Returns:
        Whether there was anything to draw.
    """
    if not any(each.timing for curve in curves.values() for _, each in curve):
        return False
    figure, canvas = _figure(7.0)
    axes = figure.subplots()
    for index, (name, curve) in enumerate(curves.items()):
        points = [(pixels, each.timing) for pixels, each in curve if each.timing is not None]
        if not points:
            continue
        colour = _COLOURS[index % len(_COLOURS)]
        pixels, timings = zip(*points, strict=True)
        medians = np.array([timing.median for timing in timings])
        spread = np.array([[t.median - t.p10, t.p90 - t.median] for t in timings]).T
        axes.errorbar(pixels, medians, yerr=spread, fmt=_mark(index), color=colour, label=name, markersize=5, capsize=2)
        if name in fits:
            line = np.geomspace(pixels[0], pixels[-1], 50)
            axes.plot(line, 1000 * (fits[name].constant + fits[name].slope * line), color=colour, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _dress(axes, "Time against the size of the image", "pixels of the image", "milliseconds")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    canvas.draw()
    _save(canvas, path)
    return True


def _mark(index: int) -> str:
    """Another mark where the colours begin again."""
    return "os^D"[index // len(_COLOURS) % 4]


def _figure(width: float) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.8), layout="constrained", dpi=_DPI)
    return figure, FigureCanvasAgg(figure)


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _save(canvas: Any, path: Path) -> None:
    canvas.draw()
    save_png(np.asarray(canvas.buffer_rgba())[..., :3].copy(), path)

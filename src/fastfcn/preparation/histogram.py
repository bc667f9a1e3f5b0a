"""How much of a data set each class covers, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.pictures import save_figure
from fastfcn.types import DataFacts

Counts = np.ndarray[Any, np.dtype[np.int64]]

#: Classes one below the other, before another column begins.
ROWS = 50

#: Marks of the splits behind the first, whose shares are bars.
MARKS = ("o", "D", "^", "s")


def draw(pixels: Mapping[str, Counts], facts: DataFacts, path: Path) -> Path:
    """Draw each class's share of the labelled pixels, the most frequent first, on a logarithmic axis.

    Args:
        pixels: By split, (num_classes,) labelled pixels. The first split's shares are bars, the others' are marks.
        facts: Names and colours of the classes.
        path: The PNG to write.

    Returns:
        The path.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    shares = {split: 100 * counts / max(counts.sum(), 1) for split, counts in pixels.items()}
    (first, bars), *others = shares.items()
    order = np.argsort(-bars, kind="stable")
    columns = -(-len(order) // ROWS)
    rows = -(-len(order) // columns)
    seen = np.concatenate([values[values > 0] for values in shares.values()] or [np.ones(1)])
    low = min(10 ** np.floor(np.log10(seen.min())), 10) if seen.size else 0.1  # a class of 100% has a bar too

    figure = Figure(figsize=(4.6 * columns + (2.4 if columns == 1 else 0), 1.3 + 0.2 * rows), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        here = order[number * rows : (number + 1) * rows]
        places = np.arange(len(here))
        axes.set_xlim(low, 100)  # before the scale, which has no place for a column of zeros
        axes.set_xscale("log")
        colors = [tuple(channel / 255 for channel in facts.palette[index]) for index in here]
        axes.barh(places, bars[here], color=colors, edgecolor="0.35", linewidth=0.5, label=first)
        for mark, (split, values) in zip(MARKS, others, strict=False):
            shown = values[here] > 0
            axes.plot(
                values[here][shown],
                places[shown],
                mark,
                color="white",
                markeredgecolor="black",
                markersize=4,
                label=split,
            )
        for place, index in zip(places, here, strict=True):
            if not any(values[index] for values in shares.values()):
                axes.annotate("in no split", (0, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
                              textcoords="offset points", va="center", fontsize=7, color="0.4")  # fmt: skip
        axes.set_ylim(rows - 0.4, -0.6)  # the first at the top
        axes.set_yticks(places, [facts.class_names[index] for index in here], fontsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("% of the labelled pixels")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if number == 0 and others:
            axes.legend(frameon=False, loc="lower right", fontsize=8)
    marks = f", bars: {first}" if others else f", {first}"
    figure.suptitle(f"Classes of {facts.name}{marks}", fontsize=11)
    save_figure(figure, path)
    return path

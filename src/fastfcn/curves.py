"""The curves of a run: its loss and its validation against the epoch.

They are drawn by the plotting library's object interface, which keeps no global state. It is imported when they are
drawn, at the end of a run: elsewhere it would lengthen the start.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastfcn.errors import UserError
from fastfcn.pictures import save_png


def draw(csv_path: Path, out_png: Path) -> None:
    """Draws the training loss, pixAcc and mIoU of a run against the epoch.

    Args:
        csv_path: ``metrics.csv`` of Lightning's CSVLogger: rows of different metrics, cells of the others empty.
        out_png: The picture to write.

    Raises:
        UserError: The file is missing or holds none of these metrics.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not csv_path.is_file():
        raise UserError(f"no metrics at {csv_path}; train with logger=csv to have them written")
    with csv_path.open(newline="") as file:
        table = list(csv.DictReader(file))
    panels = {
        "training loss": {"loss": _by_epoch(table, "train/loss_epoch") or _by_epoch(table, "train/loss")},
        "validation": {name: _by_epoch(table, f"val/{name}") for name in ("pixAcc", "mIoU")},
    }
    if not any(points for lines in panels.values() for points in lines.values()):
        raise UserError(f"{csv_path} holds none of train/loss, val/pixAcc and val/mIoU; give the metrics.csv of a run")

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for label, points in lines.items():
            if points:
                axes.plot(list(points), list(points.values()), marker="o", markersize=3, label=label)
        if len(lines) > 1 and axes.get_lines():  # without validation there is nothing to name
            axes.legend(frameon=False)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.canvas.draw()
    save_png(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy(), out_png)  # type: ignore[attr-defined]


def _by_epoch(table: Sequence[dict[str, str]], name: str) -> dict[int, float]:
    """Mean of a metric's values in each epoch, in the order of the epochs."""
    values: dict[int, list[float]] = {}
    for row in table:
        if row.get(name) and row.get("epoch"):
            values.setdefault(int(row["epoch"]), []).append(float(row[name]))
    return {epoch: float(np.mean(values[epoch])) for epoch in sorted(values)}

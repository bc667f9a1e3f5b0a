"""The curves of a run: its loss and its validation against the epoch.

They are drawn by the plotting library's object interface, which keeps no global state. It is imported when they are
drawn, at the end of a run: elsewhere it would lengthen the start.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from fastfcn.errors import UserError
from fastfcn.pictures import save_figure


def draw(csv_path: Path, out_png: Path) -> None:
    """Draws the training loss, pixAcc and mIoU of a run against the epoch.

    Args:
        csv_path: ``metrics.csv`` of Lightning's CSVLogger: rows of different metrics, cells of the others empty.
        out_png: The picture to write.

    Raises:
        UserError: The file is missing or holds none of these metrics.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = {
        "training loss": {"loss": by_epoch(csv_path, "train/loss_epoch") or by_epoch(csv_path, "train/loss")},
        "validation": {name: by_epoch(csv_path, f"val/{name}") for name in ("pixAcc", "mIoU")},
    }
    if not any(points for lines in panels.values() for points in lines.values()):
        raise UserError(f"{csv_path} holds none of train/loss, val/pixAcc and val/mIoU; give the metrics.csv of a run")

    figure = Figure(figsize=(9, 3.4), layout="constrained")
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
    save_figure(figure, out_png)


def by_epoch(csv_path: Path, name: str) -> dict[int, float]:
    """Mean of a metric's values in each epoch, in the order of the epochs; none where it was not logged.

    A run that went on in its directory has the epochs before in ``metrics.1.csv`` and so on; they belong to it. A run
    that began anew there has its first epoch in ``metrics.csv``, and nothing of what was before belongs to it.

    Args:
        csv_path: ``metrics.csv`` of a run.
        name: of the metric, e.g. ``val/mIoU``.

    Raises:
        UserError: The file is missing.
    """
    if not csv_path.is_file():
        raise UserError(f"no metrics at {csv_path}; train with logger=csv to have them written")
    earlier = csv_path.parent.glob(f"{csv_path.stem}.*{csv_path.suffix}")
    numbered = sorted((int(path.suffixes[-2][1:]), path) for path in earlier if path.suffixes[-2][1:].isdigit())
    values: dict[int, list[float]] = {}
    first = sys.maxsize
    for part in (csv_path, *(path for _, path in reversed(numbered))):
        with part.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("epoch") and int(row["epoch"]) < first]
        for row in rows:
            if row.get(name):
                values.setdefault(int(row["epoch"]), []).append(float(row[name]))
        first = min((int(row["epoch"]) for row in rows), default=first)
    return {epoch: float(np.mean(values[epoch])) for epoch in sorted(values)}

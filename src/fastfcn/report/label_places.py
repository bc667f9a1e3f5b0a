"""Labels beside points, so that they cover neither one another nor a mark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Boxes = npt.NDArray[np.float64]  # (N, 4): left, bottom, right, top in pixels

_RADII = (9, 13, 18, 25, 34, 45)  # points between a mark's centre and its label
_DIRECTIONS = 16
_INK = "#303030"  # the colours of marks are too pale for letters
_AIR = 1.0  # around a label, points
_MARK = 5.0  # half the side of a mark, points


def place(axes: Axes, labelled: Sequence[tuple[str, float, float, float]], *, size: float = 8) -> list[Any]:
    """Write a label beside each point: the nearest place where it covers nothing, with a thin line where that is far.

    Args:
        axes: drawn already, for the sizes to be known.
        labelled: text, x, y and half the length of the error bar, in data units.
        size: of the texts, points.

    Returns:
        The annotations.
    """
    figure = axes.figure
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    pixels = figure.dpi / 72
    centres = axes.transData.transform([(x, y) for _, x, y, _ in labelled])
    bars = axes.transData.transform([(x, y + half) for _, x, y, half in labelled])[:, 1] - centres[:, 1]
    reach = np.stack([np.full(len(centres), _MARK * pixels), np.maximum(bars, _MARK * pixels)], axis=1)
    marks = np.concatenate([centres - reach, centres + reach], axis=1)
    frame = axes.get_window_extent(renderer)
    bounds = np.array([frame.x0, frame.y0, frame.x1, frame.y1])
    written: list[Any] = []
    boxes = np.empty((0, 4))
    for (text, x, y, _), centre in zip(labelled, centres, strict=True):
        note = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", ha="center", va="center", fontsize=size,
            color=_INK, arrowprops=None,
        )  # fmt: skip
        extent = note.get_window_extent(renderer)
        half = np.array([extent.width, extent.height]) / 2 + _AIR * pixels
        offset, box = _best(centre, half, taken=np.concatenate([marks, boxes]), bounds=bounds, pixels=pixels)
        note.remove()
        far = math.hypot(*np.maximum(np.abs(offset) - half, 0)) > 16 * pixels
        note = axes.annotate(
            text, (x, y), xytext=tuple(offset / pixels), textcoords="offset points", ha="center", va="center",
            fontsize=size, color=_INK,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": _INK, "shrinkB": _MARK} if far else None,
        )  # fmt: skip
        boxes = np.concatenate([boxes, box[None]])
        written.append(note)
    return written


def _best(centre: Boxes, half: Boxes, *, taken: Boxes, bounds: Boxes, pixels: float) -> tuple[Boxes, Boxes]:
    """Offset and box of the first place that covers nothing; else of the one that covers least."""
    least, found = math.inf, None
    for radius in _RADII:
        for step in range(_DIRECTIONS):
            # to the right first, then the diagonals, above and below
            angle = 2 * math.pi * step / _DIRECTIONS
            direction = np.array([math.cos(angle), math.sin(angle)])
            offset = direction * (radius * pixels) + np.sign(np.round(direction, 6)) * half * np.abs(direction) ** 0.5
            box = np.concatenate([centre + offset - half, centre + offset + half])
            covered = _overlap(box, taken).sum() + _outside(box, bounds)
            if covered < least:
                least, found = covered, (offset, box)
            if least == 0:
                break
        if least == 0:
            break
    assert found is not None
    return found


def _overlap(box: Boxes, others: Boxes) -> Boxes:
    """(N,) areas of other boxes under a box, square pixels."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    areas: Boxes = np.prod(np.maximum(sides, 0), axis=1)
    return areas


def _outside(box: Boxes, bounds: Boxes) -> float:
    """Area of a box beyond the frame, square pixels."""
    whole = np.prod(box[2:] - box[:2])
    return float(whole - _overlap(box, bounds[None]).sum())

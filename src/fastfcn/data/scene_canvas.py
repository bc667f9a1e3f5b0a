"""The canvas that a scene is painted on: antialiased shapes in an image, the same shapes crisp in a mask.

All positions and widths are fractions of the image's side, so that a scene looks the same at every size, only sharper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt

from fastfcn.types import Int16Array

Floats: TypeAlias = npt.NDArray[np.float32]
#: A filled polygon: (N, 2) corners (x, y) as fractions of the side, x to the right and y downwards.
Shape: TypeAlias = npt.NDArray[np.float64]
#: An RGB colour, 0 to 255, either one (3,) or one per pixel (H, W, 3).
Colour: TypeAlias = npt.ArrayLike

#: Side of the plan, in cells.
PLAN_SIZE = 64

_SHIFT = 4  # fractional bits of the corner coordinates that OpenCV is given
_ANGLES = np.arange(24) * (np.pi / 12)
_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=1)


class Canvas:
    """An image and its mask, painted together from back to front.

    A shape is rasterised once, as coverage per pixel. The image blends by this coverage, the mask takes the shape's
    class where the coverage is a half or more, so the two cannot drift apart.

    Attributes:
        size: side of the square, in pixels.
        image: (size, size, 3) float32 RGB, 0 to 255.
        mask: (size, size) int16 class ids.
        plan: (PLAN_SIZE, PLAN_SIZE) int16 class ids of sky and ground, rough but the same at every size: where things
            stand is looked up here, so that the size never changes what a scene contains.
        xs, ys: (1, size) and (size, 1) positions of the pixel centres, as fractions of the side.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.image: Floats = np.zeros((size, size, 3), np.float32)
        self.mask: Int16Array = np.zeros((size, size), np.int16)
        self.plan: Int16Array = np.zeros((PLAN_SIZE, PLAN_SIZE), np.int16)
        centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
        self.xs, self.ys = centres[None, :], centres[:, None]
        self._subpixels = 4 if size <= 256 else 2  # per side of a pixel; large images need fewer for the same look

    @property
    def pixel(self) -> float:
        """Width of one pixel as a fraction of the side: the least width of a stroke that the mask can hold."""
        return 1.0 / self.size

    def paint(
        self,
        shapes: Sequence[Shape],
        colour: Colour,
        class_id: int | None,
        *,
        opacity: float = 1.0,
        within: int | None = None,
    ) -> None:
        """Paint the union of some shapes.

        Args:
            shapes: polygons; the parts outside the canvas are cut off.
            colour: (3,) or (size, size, 3).
            class_id: written to the mask, or None for a decoration that leaves the mask as it is.
            opacity: 0 to 1; only decorations may be translucent.
            within: paint only where the mask holds this class.
        """
        corners = np.concatenate(shapes) * self.size
        ends = np.cumsum([len(shape) for shape in shapes])
        (low_x, low_y), (high_x, high_y) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        left, top = max(int(low_x) - 1, 0), max(int(low_y) - 1, 0)
        right, bottom = min(int(high_x) + 2, self.size), min(int(high_y) + 2, self.size)
        if left >= right or top >= bottom:
            return
        window = (slice(top, bottom), slice(left, right))
        coverage = self._coverage(corners - (left, top), ends, right - left, bottom - top)
        if within is not None:
            coverage *= self.mask[window] == within
        if class_id is not None:
            self.mask[window][coverage >= 0.5] = class_id
        self.blend(coverage * opacity, colour, window=window)

    def lay(self, shapes: Sequence[Shape], colour: Colour, class_id: int, *, within: int | None = None) -> None:
        """Paint ground, and enter it in the plan as well."""
        self.paint(shapes, colour, class_id, within=within)
        stencil = np.zeros_like(self.plan)
        for shape in shapes:
            cv2.fillPoly(stencil, [np.round(shape * PLAN_SIZE - 0.5).astype(np.int32)], color=1)
        self.plan[(stencil == 1) & ((self.plan == within) if within is not None else True)] = class_id

    def blend(self, alpha: Floats, colour: Colour, *, window: tuple[slice, slice] | None = None) -> None:
        """Mix a colour into the image, weighted by alpha (h, w), in the whole canvas or in a window of it."""
        window = window or (slice(None), slice(None))
        target = self.image[window]
        paint = np.asarray(colour, np.float32)
        target += alpha[..., None] * ((paint if paint.ndim == 1 else paint[window]) - target)

    def _coverage(self, corners: Shape, ends: npt.NDArray[np.int64], width: int, height: int) -> Floats:
        """Return the covered fraction, 0 to 1, of every pixel of a window.

        Args:
            corners: those of all shapes one after another, in pixels from the window's corner.
            ends: where each shape ends in them.
            width: of the window, in pixels.
            height: of the window, in pixels.
        """
        factor = self._subpixels
        stencil = np.zeros((height * factor, width * factor), np.uint8)
        # OpenCV's integer coordinates are the centres of subpixels, hence the half.
        points = np.round((corners * factor - 0.5) * (1 << _SHIFT)).astype(np.int32)
        start = 0
        for end in ends.tolist():  # one by one: filled together, overlapping shapes would cancel out
            cv2.fillPoly(stencil, [points[start:end]], color=255, shift=_SHIFT)
            start = end
        coverage = cv2.resize(stencil, (width, height), interpolation=cv2.INTER_AREA)
        return np.multiply(coverage, np.float32(1 / 255), dtype=np.float32)


def stroke(points: npt.ArrayLike, start_width: float, end_width: float | None = None) -> list[Shape]:
    """Return a line through points (N, 2) as one convex shape per segment, tapering from start to end width."""
    line = np.asarray(points, np.float64)
    taper = np.arange(len(line))[:, None] / (len(line) - 1)
    widths = start_width + taper * ((start_width if end_width is None else end_width) - start_width)
    along = line[1:] - line[:-1]
    along /= np.maximum(np.sqrt((along**2).sum(axis=1, keepdims=True)), 1e-9)
    across = along[:, ::-1] * (-0.5, 0.5)
    start, end = widths[:-1], widths[1:]
    a, b = line[:-1] - along * start / 4, line[1:] + along * end / 4  # overlap, so that bends show no gap
    return list(np.stack((a + across * start, b + across * end, b - across * end, a - across * start), axis=1))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, *, tilt: float = 0.0) -> Shape:
    """Return an ellipse as a polygon; tilt in radians, clockwise as seen."""
    along, across = _CIRCLE[:, 0] * radius_x, _CIRCLE[:, 1] * radius_y
    cos, sin = math.cos(tilt), math.sin(tilt)
    shape = np.empty_like(_CIRCLE)
    shape[:, 0] = x + along * cos - across * sin
    shape[:, 1] = y + along * sin + across * cos
    return shape


def polygon(*corners: tuple[float, float]) -> Shape:
    """Return a polygon from its corners (x, y)."""
    return np.array(corners, np.float64)


def wavy(rng: np.random.Generator, positions: npt.NDArray[np.floating], amplitude: float) -> npt.NDArray[np.float64]:
    """Return a smooth random curve over positions (N,), a sum of three sines, within about +-amplitude."""
    frequencies = rng.uniform((2.0, 6.0, 14.0), (5.0, 12.0, 26.0))
    phases, weights = rng.uniform(0, 2 * np.pi, 3), np.array((0.6, 0.3, 0.1))
    return cast("npt.NDArray[np.float64]", np.sin(np.outer(positions, frequencies) + phases) @ weights * amplitude)


def fractal_noise(rng: np.random.Generator, size: int, *, octaves: Sequence[int], stretch: int = 1) -> Floats:
    """Return (size, size) smooth noise of about unit variance.

    Args:
        rng: drawn from alike at every size, so that the pattern is the same.
        size: side in pixels.
        octaves: cells per side of each octave; each next one weighs 0.6 of the one before.
        stretch: how many times longer than high the cells are.
    """
    total: Floats = np.zeros((size, size), np.float32)
    power = 0.0
    for number, cells in enumerate(octaves):
        grid = rng.standard_normal((cells, max(cells // stretch, 2)), dtype=np.float32)
        method = cv2.INTER_AREA if min(grid.shape) > size else cv2.INTER_CUBIC
        total += 0.6**number * cv2.resize(grid, (size, size), interpolation=method)
        power += 0.36**number
    # Interpolation between the cells takes about a quarter of the deviation.
    return cast("Floats", total / np.float32(np.sqrt(power) * 0.75))

"""Resize and crop in one step: only the part of a picture that a crop shows is ever computed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from fastfcn.types import Int16Array, UInt8Array

#: How far beyond the crop, in target pixels, a window may begin or end to meet the grid of the source.
REACH = 40

#: How far apart the two grids may be where they meet, in source pixels.
TOLERANCE = 1 / 32


class View(NamedTuple):
    """A crop of a resized picture.

    Attributes:
        size: (height, width) of the whole picture after resizing, pixels.
        top: First row of the crop.
        left: First column of the crop.
        height: Rows of the crop; `top + height` is at most the picture's height.
        width: Columns of the crop.
    """

    size: tuple[int, int]
    top: int
    left: int
    height: int
    width: int


def resized(height: int, width: int, short: int) -> tuple[int, int]:
    """Size of a picture whose short side becomes `short` pixels; the other is rounded down, as in the official code.

    Args:
        height: Pixels.
        width: Pixels.
        short: Pixels of the short side after resizing.

    Returns:
        Height and width.
    """
    if height > width:
        return int(height * short / width), short
    return short, max(int(width * short / height), short)


def image_crop(image: UInt8Array, view: View, *, full: tuple[int, int]) -> UInt8Array:
    """What resizing the whole image, then cropping it would give, at the cost of the crop.

    Bilinear, smoothed before it shrinks: Pillow's filter to a grey level or two, by torch's kernel for bytes.

    Args:
        image: (h, w, 3), at full scale or decoded at a reduced one.
        view: The crop.
        full: Height and width of the picture at full scale.

    Returns:
        (height, width, 3).
    """
    rows = _window(view.top, view.height, length=view.size[0], full=full[0], source=image.shape[0])
    columns = _window(view.left, view.width, length=view.size[1], full=full[1], source=image.shape[1])
    part = image[rows.source_start : rows.source_stop, columns.source_start : columns.source_stop]
    target = rows.stop - rows.start, columns.stop - columns.start
    if target != part.shape[:2]:
        batch = torch.from_numpy(np.require(part, requirements="W"))[None].permute(0, 3, 1, 2)  # channels last
        part = F.interpolate(batch, size=target, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    top, left = view.top - rows.start, view.left - columns.start
    crop: UInt8Array = part[top : top + view.height, left : left + view.width]
    return crop


def mask_crop(mask: Int16Array, view: View, *, flip: bool = False) -> Int16Array:
    """Nearest-neighbour resizing and cropping, from pixel centres: Pillow's, exactly.

    Args:
        mask: (h, w).
        view: The crop.
        flip: Mirror the crop left and right.

    Returns:
        (height, width).
    """
    rows = _nearest(view.top, view.height, scale=mask.shape[0] / view.size[0])
    columns = _nearest(view.left, view.width, scale=mask.shape[1] / view.size[1])
    if flip:
        columns = columns[::-1]
    # Columns are the dear ones to gather: take them of no more rows than there are, before or after.
    seen = slice(rows[0], rows[-1] + 1)
    if seen.stop - seen.start < len(rows):
        crop: Int16Array = mask[seen].take(columns, axis=1, mode="clip").take(rows - seen.start, axis=0, mode="clip")
    else:
        crop = mask.take(rows, axis=0, mode="clip").take(columns, axis=1, mode="clip")
    return crop


def _nearest(start: int, count: int, *, scale: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The source pixel under the centre of each target pixel, added up step by step as Pillow does, ties included."""
    steps = np.full(start + count, scale)
    steps[0] = scale * 0.5
    return np.cumsum(steps)[start:].astype(np.intp)


class _Window(NamedTuple):
    """A range of target pixels, and the range of source pixels that it comes from."""

    start: int
    stop: int
    source_start: int
    source_stop: int


def _window(start: int, count: int, *, length: int, full: int, source: int) -> _Window:
    """The range of an axis to resize for a crop: it begins and ends where target and source pixels begin together.

    A crop that begins within a source pixel cannot be resized on its own: the grid would shift by up to half a pixel.
    A little further out the two grids all but meet. Where they do not, within reach, the axis is taken whole.

    Args:
        start: First pixel of the crop.
        count: Pixels of the crop.
        length: Pixels of the whole axis after resizing.
        full: Pixels of the axis at full scale.
        source: Pixels of the axis as decoded: `full`, or a reduced number.
    """
    reduction = max(round(full / source), 1)
    scale = full / reduction / length  # source pixels per target pixel
    margin = math.ceil(1 / scale) + 1  # the filter looks at neighbours, which the window must hold too
    first, last = start - margin, start + count + margin
    begin = _meeting(range(first, max(first - REACH, 0), -1), scale) or (0, 0)
    end = _meeting(range(last, min(last + REACH, length)), scale) or (length, source)
    return _Window(begin[0], end[0], begin[1], end[1])


def _meeting(candidates: range, scale: float) -> tuple[int, int] | None:
    """The first candidate that begins where a source pixel begins, and this pixel; None if there is none."""
    places = np.arange(candidates.start, candidates.stop, candidates.step) * scale
    distances = np.abs(places - np.rint(places))
    meets = np.flatnonzero(distances <= TOLERANCE)
    if not len(meets):
        return None
    first = int(meets[0])
    return candidates[first], round(float(places[first]))

"""The regions of COCO annotations: polygons and run-length codes, decoded by pycocotools once they are known as sound.

pycocotools itself takes four numbers of a polygon for a box, and fills what a code leaves out with whatever lay in
memory (2.0.11): so a region is looked at before it is handed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

#: How far, in pixels, a polygon may reach over the image's edge: tools round, and count corners or centres of pixels.
SLACK = 1.0


class Region(NamedTuple):
    """A region as a run-length code, a few hundred bytes, until it is drawn.

    Attributes:
        code: Of pycocotools.
        area: Pixels.
    """

    code: Mapping[str, Any]
    area: int

    def pixels(self) -> npt.NDArray[np.bool_]:
        """(height, width)."""
        return np.ascontiguousarray(coco.decode(self.code), dtype=np.bool_)


def region(segmentation: Any, size: tuple[int, int]) -> Region:
    """The region of a segmentation.

    Args:
        segmentation: As a JSON of COCO holds it: polygons, ``[[x, y, x, y, ...], ...]`` in pixels, whose union counts;
            or a run-length code ``{"size": [height, width], "counts": ...}`` of columns, compressed (text) or not (a
            list of whole numbers).
        size: (height, width) of the image in pixels.

    Raises:
        ValueError: It is neither, or does not fit the image; the message follows "the segmentation".
    """
    if isinstance(segmentation, Mapping):
        code = _checked_code(segmentation, size)
    elif isinstance(segmentation, list) and segmentation and all(isinstance(part, list) for part in segmentation):
        for polygon in segmentation:
            _check_polygon(polygon, size)
        code = coco.merge(coco.frPyObjects(segmentation, *size))
    else:
        raise ValueError("is neither a list of polygons nor a run-length code with size and counts")
    return Region(code, int(coco.area(code)))


def _checked_code(code: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, Any]:
    counts, of = code.get("counts"), code.get("size")
    if not (isinstance(of, list) and len(of) == 2 and all(map(_is_whole, of))):
        raise ValueError("is a run-length code without its size [height, width]")
    if tuple(of) != size:
        raise ValueError(f"is {of[1]} x {of[0]} pixels, but its image {size[1]} x {size[0]}")
    if isinstance(counts, str):
        runs = _runs(counts)
    elif isinstance(counts, list) and all(map(_is_whole, counts)):
        runs = counts
    else:
        raise ValueError("is a run-length code whose counts are neither text nor whole numbers")
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError(f"is a run-length code of {sum(runs)} pixels, but its image has {size[0] * size[1]}")
    checked: Mapping[str, Any] = coco.frPyObjects({"size": of, "counts": runs}, *size)
    return checked


def _runs(text: str) -> list[int]:
    """The lengths of the runs in a compressed code.

    Each number is written in groups of 5 bits, the lowest first, as characters from "0" on; bit 5 says that another
    group follows, and the highest bit of the last one is the sign. From the fourth number on it is the difference to
    the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"is a run-length code with the character {character!r}, which none has")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("is a run-length code that is cut off")
    return runs


def _check_polygon(polygon: Sequence[Any], size: tuple[int, int]) -> None:
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"has a polygon of {len(polygon)} numbers: at least three corners of x and y make one")
    if not all(isinstance(number, int | float) and number == number for number in polygon):  # NaN is unequal to itself
        raise ValueError("has a polygon of something else than numbers")
    for name, numbers, length in (("x", polygon[0::2], size[1]), ("y", polygon[1::2], size[0])):
        for number in (min(numbers), max(numbers)):
            if not -SLACK <= number <= length + SLACK:
                raise ValueError(
                    f"has a polygon with {name} = {number}, outside of its image of {size[1]} x {size[0]} pixels"
                )


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)

"""Which colour is which class: swatches with names and shares, below a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fastfcn.pictures import dejavu_sans
from fastfcn.types import DataFacts, UInt8Array

#: A narrower picture gets a legend of this width, in pixels.
LEAST_WIDTH = 320

_INK, _FAINT = (32, 32, 32), (110, 110, 110)


class _Place(NamedTuple):
    """Where a class stands: left and line, in pixels and lines from the top."""

    left: int
    line: int
    label: int
    text: str


class Legend:
    """The legend of pictures of one width.

    Args:
        facts: Names and colours of the classes.
        width: Of the picture, in pixels.
        labels: Classes for which there is to be room; None is all of them.
        lines: Where all would need more lines, so many are made and what does not fit is left out.
    """

    def __init__(
        self, facts: DataFacts, width: int, *, labels: Sequence[int] | None = None, lines: int | None = None
    ) -> None:
        self.facts = facts
        self.width = max(width, LEAST_WIDTH)
        self.size = max(13, self.width // 70)  # of the letters, in pixels
        self._lines = lines
        room = dict.fromkeys(range(facts.num_classes) if labels is None else labels, 1.0)
        places = self._places(room)
        self._count = 1 + max((place.line for place in places), default=0)
        self.height = self._count * self._step + self.size

    @property
    def _step(self) -> int:
        return round(1.8 * self.size)

    def draw(self, shares: Mapping[int, float]) -> UInt8Array:
        """Draw the classes that occur.

        Args:
            shares: Of the pixels, 0 to 1, by class id.

        Returns:
            (height, width, 3) uint8, RGB.
        """
        canvas = Image.new("RGB", (self.width, self.height), "white")
        draw = ImageDraw.Draw(canvas)
        font, swatch = dejavu_sans(self.size), round(1.3 * self.size)
        for place in self._places(shares):
            if place.line >= self._count:
                break
            top = self.size // 2 + place.line * self._step
            corners = (place.left, top, place.left + swatch, top + swatch)
            draw.rectangle(corners, fill=self.facts.palette[place.label], outline=_FAINT)
            middle = (place.left + swatch + self.size // 2, top + swatch // 2)
            draw.text(middle, place.text, _INK, font, anchor="lm")
        return np.asarray(canvas)

    def _places(self, shares: Mapping[int, float]) -> list[_Place]:
        """The classes side by side, wrapped to the width."""
        font, places = dejavu_sans(self.size), list[_Place]()
        left = line = 0
        for label in sorted(shares):
            percent = f"{100 * shares[label]:.1f}%" if shares[label] >= 0.0005 else "<0.1%"
            text = f"{self.facts.class_names[label]} {percent}"
            advance = round(1.3 * self.size) + self.size // 2 + int(font.getlength(text)) + 2 * self.size
            if left and left + advance > self.width:
                left, line = 0, line + 1
            if self._lines is not None and line >= self._lines:
                break
            places.append(_Place(left + self.size // 2, line, label, text))
            left += advance
        return places


def below(picture: UInt8Array, strip: UInt8Array) -> UInt8Array:
    """A picture with its legend below, white at the right where the legend is wider."""
    height, width = picture.shape[:2]
    page = np.full((height + len(strip), max(width, strip.shape[1]), 3), 255, dtype=np.uint8)
    page[:height, :width] = picture
    page[height:, : strip.shape[1]] = strip
    return page

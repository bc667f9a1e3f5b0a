"""Pictures of a comparison: classes over the image, one class alone, uncertainty, differences and errors."""

from __future__ import annotations

from typing import Literal, TypeVar

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt

from fastfcn.pictures import colourise
from fastfcn.types import UInt8Array
from fastfcn.web.answers import Comparison, class_number

View = Literal["Classes", "Uncertainty", "Differences", "Errors"]
VIEWS: tuple[View, ...] = ("Classes", "Uncertainty", "Differences", "Errors")

#: What each view shows, for the line under the choice.
TOLD: dict[str, str] = {
    "Classes": "The class of each pixel, over the image",
    "Uncertainty": "Dark: the model is sure; bright: it wavers between classes (entropy of their probabilities)",
    "Differences": "In colour where the two models give different classes",
    "Errors": "In colour where the model is wrong, in the colour of the class that it gives",
}

#: Pixels of the longer side that a small image is enlarged to, by a whole factor, so that a mask stays crisp.
SHOWN = 768

#: How much of the grey image is left where nothing is to be seen.
_FAINT = 0.35

Pixel = TypeVar("Pixel", bound=np.generic)


def pair(comparison: Comparison, view: View, *, strength: float, alone: str | None) -> tuple[UInt8Array, UInt8Array]:
    """What the two sides show.

    Args:
        comparison: of two models.
        view: what to see.
        strength: 0 shows the image alone, 1 the colours alone.
        alone: the name of the one class that is shown; None for all.

    Returns:
        The left and the right picture, (h, w, 3) uint8, enlarged where the image is small.
    """
    left, right = (one(comparison, index, view, strength=strength, alone=alone) for index in (0, 1))
    return left, right


def one(
    comparison: Comparison, index: int, view: View, *, strength: float = 0.6, alone: str | None = None
) -> UInt8Array:
    """One side of `pair`: of the left model for index 0, of the right one for 1."""
    answer, factor = comparison.answers[index], enlargement(comparison.image)
    image = enlarged(comparison.image, factor)
    shown = np.ones(answer.found.ids.shape, dtype=bool)
    if alone is not None:
        shown &= answer.found.ids == class_number(answer.found.facts, alone)
    if view == "Uncertainty":
        colours = _heat(answer.uncertainty)
    else:
        colours = colourise(answer.found.ids, comparison.palette(index))
        if view == "Differences":
            shown &= comparison.differing()
        elif view == "Errors":
            shown &= answer.found.ids != comparison.truth if comparison.truth is not None else False
    colours, shown = _repeated(colours, factor), _repeated(shown, factor)
    blended = _mixed(image, colours, strength)
    if view == "Classes" and alone is None:
        return blended
    faded = _mixed(np.full_like(image, 255), _grey(image), _FAINT)
    return np.where(shown[..., None], blended, faded)


def enlargement(image: UInt8Array) -> int:
    """The whole factor by which an image is shown larger than it is."""
    return max(1, SHOWN // int(max(image.shape[:2])))


def enlarged(image: UInt8Array, factor: int) -> UInt8Array:
    """An image that is shown larger, smoothly."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(image, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC))


def _repeated(values: npt.NDArray[Pixel], factor: int) -> npt.NDArray[Pixel]:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _mixed(below: UInt8Array, above: UInt8Array, strength: float) -> UInt8Array:
    return np.asarray(cv2.addWeighted(below, 1 - strength, above, strength, 0))


def _grey(image: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def _heat(values: UInt8Array) -> UInt8Array:
    """(H, W) uint8 -> colours from black to pale yellow, whose brightness grows with the value."""
    table = (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return np.asarray(table[values])

"""What two models make of one image, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastfcn.errors import UserError
from fastfcn.prediction.segmentation import Segmentation
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.types import DataFacts, Int16Array, UInt8Array

Color = tuple[int, int, int]


class Answer(NamedTuple):
    """What one model makes of the image.

    Attributes:
        name: of the model.
        short: the same in a word.
        found: class ids of each pixel, with names and colours of the classes; without probabilities.
        uncertainty: (H, W) uint8: entropy of the classes' probabilities, 0 where the model is sure, 255 where it would
            take every class alike.
        milliseconds: median time of each stage of one pass, by its name.
    """

    name: str
    short: str
    found: Segmentation
    uncertainty: UInt8Array
    milliseconds: dict[str, float]


class Share(NamedTuple):
    """A row of the legend.

    Attributes:
        name: of the class.
        color: R, G, B.
        shares: fraction of the pixels that each model gives the class; None where a model does not know it.
    """

    name: str
    color: Color
    shares: tuple[float | None, float | None]


class Comparison(NamedTuple):
    """Two models' answers to the same image.

    Attributes:
        image: (H, W, 3) uint8, RGB, as the models were given it.
        answers: the left one and the right one.
        truth: (H, W) class ids of the left model's classes; None where it is not known.
        rounds: how often the stages were timed.
    """

    image: UInt8Array
    answers: tuple[Answer, Answer]
    truth: Int16Array | None
    rounds: int

    def legend(self) -> list[Share]:
        """The classes that a model finds, by their names, the largest first.

        Models of different data are compared by the names of their classes; a class that both know has the left
        model's colour.
        """
        left, right = self.answers
        colors = {**_colors(right.found.facts), **_colors(left.found.facts)}
        shares = [_shares(answer.found) for answer in self.answers]
        rows = [Share(name, color, (shares[0].get(name), shares[1].get(name))) for name, color in colors.items()]
        found = [row for row in rows if any(row.shares)]
        return sorted(found, key=lambda row: -max(share or 0.0 for share in row.shares))

    def palette(self, index: int) -> list[Color]:
        """The colours of one model's classes, as the legend has them."""
        colors = {**_colors(self.answers[1].found.facts), **_colors(self.answers[0].found.facts)}
        return [colors[name] for name in self.answers[index].found.facts.class_names]

    def agreement(self) -> float:
        """The fraction of pixels to which both give a class of the same name."""
        return float((self._named(0) == self._named(1)).mean())

    def differing(self) -> npt.NDArray[np.bool_]:
        """(H, W): where the models give classes of different names."""
        return np.asarray(self._named(0) != self._named(1))

    def right(self, index: int) -> float | None:
        """The fraction of pixels that one model gives the class of the truth; None where there is no truth."""
        return None if self.truth is None else float((self.answers[index].found.ids == self.truth).mean())

    def _named(self, index: int) -> npt.NDArray[np.intp]:
        """(H, W): a number for each class name, the same ones for both models."""
        names = list(dict.fromkeys(name for answer in self.answers for name in answer.found.facts.class_names))
        numbers = np.array([names.index(name) for name in self.answers[index].found.facts.class_names])
        return np.asarray(numbers[self.answers[index].found.ids])


def ask(segmenter: Segmenter, image: UInt8Array) -> tuple[Segmentation, UInt8Array]:
    """A model's classes, without the probabilities, which take much room; and the uncertainty of `Answer`."""
    found = segmenter(image, probabilities=True)
    uncertainty = (255 * found.uncertainty()).round().astype(np.uint8)
    return replace(found, probabilities=None), uncertainty


def class_number(facts: DataFacts, name: str) -> int | None:
    """The id of a class by its name; None where the model does not know it."""
    return facts.class_names.index(name) if name in facts.class_names else None


def check_pair(names: Sequence[str | None], known: Sequence[str]) -> tuple[str, str]:
    """The two models that were chosen.

    Raises:
        UserError: one is not chosen, or not offered.
    """
    left, right = names
    for name in (left, right):
        if name not in known:
            raise UserError("Choose two models: one for the left side, one for the right.")
    assert left is not None
    assert right is not None
    return left, right


def _shares(found: Segmentation) -> dict[str, float]:
    """The fraction of the pixels of each class that the model knows."""
    return dict.fromkeys(found.facts.class_names, 0.0) | found.shares()


def _colors(facts: DataFacts) -> dict[str, Color]:
    return dict(zip(facts.class_names, facts.palette, strict=True))

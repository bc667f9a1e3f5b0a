"""Which part of a training image is shown, where classes are rare: crops that look at the mask before they are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastfcn.data.geometry import View, mask_crop
from fastfcn.errors import UserError
from fastfcn.types import Int16Array

#: Crops that are drawn at most for one in which no class has too large a share.
TRIES = 10


@dataclass(frozen=True, kw_only=True)
class BalancedCrops:
    """Moves the random crop of a training image.

    Its random numbers are a stream of their own for each sample, so that all other draws stay as they are.

    Attributes:
        cat_max_ratio: A crop of whose labelled pixels one class has this share or more is drawn again, ten times in
            all, as mmsegmentation does; 1: never.
        class_crops: Probability that the crop is centred, as far as the image reaches, on a pixel of a class: all
            classes of the image are equally likely, then all pixels of the class.
    """

    cat_max_ratio: float = 1.0
    class_crops: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.cat_max_ratio <= 1:
            raise UserError(f"data.cat_max_ratio={self.cat_max_ratio} is a share above 0 and at most 1.")
        if not 0 <= self.class_crops <= 1:
            raise UserError(f"data.class_crops={self.class_crops} is a probability and must lie between 0 and 1.")

    def move(self, view: View, mask: Int16Array, *, seed: int) -> View:
        """The crop that is made instead of one that was drawn blindly.

        Args:
            view: The one that was drawn.
            mask: (H, W) of the whole image.
            seed: Of the sample.
        """
        if self.cat_max_ratio == 1 and not self.class_crops:
            return view
        rng = np.random.default_rng((seed, 1))
        if rng.random() < self.class_crops:
            return _centred(view, mask, rng)
        for _ in range(TRIES - 1):
            if self.cat_max_ratio == 1 or self._is_mixed(_counts(mask_crop(mask, view))):
                break
            view = view._replace(
                top=int(rng.integers(view.size[0] - view.height + 1)),
                left=int(rng.integers(view.size[1] - view.width + 1)),
            )
        return view

    def _is_mixed(self, counts: np.ndarray[tuple[int], np.dtype[np.intp]]) -> bool:
        present = counts[counts > 0]
        return len(present) > 1 and bool(present.max() < self.cat_max_ratio * present.sum())


def _counts(mask: Int16Array) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Pixels of each class id up to the highest one there."""
    return np.bincount(mask[mask >= 0])


def _centred(view: View, mask: Int16Array, rng: np.random.Generator) -> View:
    """The crop around a pixel of a class; as it was where the image has no labels."""
    classes = np.flatnonzero(_counts(mask))
    if not len(classes):
        return view
    places = np.flatnonzero(mask == rng.choice(classes))
    place = divmod(int(rng.choice(places)), mask.shape[1])
    starts = []
    for at, length, crop, full in zip(place, view.size, (view.height, view.width), mask.shape, strict=True):
        centre = (at + 0.5) * length / full
        starts.append(min(max(round(centre - crop / 2), 0), length - crop))
    return view._replace(top=starts[0], left=starts[1])

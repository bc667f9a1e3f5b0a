"""Large images in tiles: the memory for maps and logits is that of a tile, however large the image.

A tile is segmented as an image of its own, and what is kept of it lies at least a halo away from its cut sides. A model
whose answer depends on no more than the halo around a pixel gives what it gives for the whole image. Two things of
FastFCN go further: the Encoding head's context is that of the tile, not of the image, and bilinear resizing with
aligned corners stretches the maps of a tile by a little less than those of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np

from fastfcn.errors import UserError
from fastfcn.prediction.segmentation import FloatArray, Ids, as_ids
from fastfcn.types import DataFacts, UInt8Array

#: Tiles begin at its multiples, so that every level of the network has the grid there that it has over the whole.
STRIDE = 32

#: How far a tile reaches over what is kept of it, in pixels, where nothing is said.
HALO = 128

#: From how many pixels on an image is cut by itself, and into what.
AUTO_PIXELS, AUTO_SIDE = 1 << 24, 1024


class Predict(Protocol):
    """Segments a batch."""

    def __call__(self, images: UInt8Array, *, probabilities: bool = False) -> tuple[Ids, FloatArray | None]:
        """(B, H, W, 3) uint8 -> class ids (B, H, W), and (B, C, H, W) probabilities where they are wanted."""


class Span(NamedTuple):
    """A tile along one axis, in pixels.

    Attributes:
        first: Where it begins.
        last: Where it ends.
        keep_first: Where what is kept of it begins.
        keep_last: Where that ends.
    """

    first: int
    last: int
    keep_first: int
    keep_last: int

    @property
    def read(self) -> slice:
        """What is shown to the model."""
        return slice(self.first, self.last)

    @property
    def kept(self) -> slice:
        """What is kept, within the image."""
        return slice(self.keep_first, self.keep_last)

    @property
    def inner(self) -> slice:
        """What is kept, within the tile."""
        return slice(self.keep_first - self.first, self.keep_last - self.first)


class Band(NamedTuple):
    """A row of tiles, done.

    Attributes:
        rows: Of the image.
        ids: (rows, W).
        probabilities: (C, rows, W), or None.
    """

    rows: slice
    ids: Ids
    probabilities: FloatArray | None


def check(tile: object, halo: int) -> None:
    """Refuse tiles that cannot be.

    Raises:
        UserError: The sides are no multiples of 32, or nothing would be kept of a tile.
    """
    if halo < 0 or halo % STRIDE:
        raise UserError(f"halo={halo}: give a multiple of {STRIDE}, the stride of the network, from 0 on.")
    if tile == "auto":
        tile = AUTO_SIDE
    if tile is None:
        return
    if not isinstance(tile, int) or tile < STRIDE or tile % STRIDE:
        raise UserError(f"tile={tile}: give a multiple of {STRIDE}, the stride of the network, auto, or null for none.")
    if tile < 2 * halo + STRIDE:
        raise UserError(f"halo={halo} leaves nothing of tile={tile}: choose tile={2 * halo + STRIDE} or more.")


def spans(length: int, *, side: int, halo: int) -> list[Span]:
    """The tiles along an axis: each at most `side` pixels, what is kept of them side by side without a gap."""
    if length <= side:
        return [Span(0, length, 0, length)]
    step = side - 2 * halo
    begins = range(0, length, step)
    return [
        Span(max(0, begin - halo), min(length, begin + step + halo), begin, min(length, begin + step))
        for begin in begins
    ]


def bands(
    predict: Predict,
    image: UInt8Array,
    facts: DataFacts,
    *,
    side: int,
    halo: int,
    batch_size: int = 1,
    probabilities: bool = False,
) -> Iterator[Band]:
    """Segment an image tile by tile, and give the rows of each row of tiles when they are done.

    Args:
        predict: Segments a batch.
        image: (H, W, 3) uint8; it may lie in a file.
        facts: Of the classes.
        side: Of the tiles, in pixels.
        halo: How far they reach over what is kept.
        batch_size: Tiles that go through the model together, of those side by side and of one size.
        probabilities: Whether they are wanted.
    """
    height, width = image.shape[:2]
    columns = spans(width, side=side, halo=halo)
    for row in spans(height, side=side, halo=halo):
        rows = row.keep_last - row.keep_first
        ids = as_ids(np.empty((rows, width), np.uint8), facts)
        scores = np.empty((facts.num_classes, rows, width), np.float32) if probabilities else None
        for _, same in groupby(columns, key=lambda span: span.last - span.first):
            equal = list(same)
            for start in range(0, len(equal), batch_size):
                chosen = equal[start : start + batch_size]
                tiles = np.stack([image[row.read, column.read] for column in chosen])
                found, known = predict(tiles, probabilities=probabilities)
                for index, column in enumerate(chosen):
                    ids[:, column.kept] = found[index][row.inner, column.inner]
                    if scores is not None and known is not None:
                        scores[:, :, column.kept] = known[index][:, row.inner, column.inner]
        yield Band(row.kept, ids, scores)


def whole(
    predict: Predict, image: UInt8Array, facts: DataFacts, *, side: int, halo: int, probabilities: bool
) -> tuple[Ids, FloatArray | None]:
    """Class ids (H, W) of an image in tiles, and its probabilities (C, H, W) where they are wanted."""
    height, width = image.shape[:2]
    ids = as_ids(np.empty((height, width), np.uint8), facts)
    scores = np.empty((facts.num_classes, height, width), np.float32) if probabilities else None
    for band in bands(predict, image, facts, side=side, halo=halo, probabilities=probabilities):
        ids[band.rows] = band.ids
        if scores is not None and band.probabilities is not None:
            scores[:, band.rows] = band.probabilities
    return ids, scores

"""What a model makes of one image, and the forms in which it is shown and kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastfcn.errors import UserError
from fastfcn.types import DataFacts, UInt8Array

FloatArray = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.uint8] | npt.NDArray[np.int32]

#: How many classes the palette of a PNG, and a byte of an id, hold.
IN_A_BYTE = 256

#: How many classes a PNG of 16 bits holds.
IN_TWO_BYTES = 65536


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One image, segmented, at the image's own size.

    Attributes:
        ids: (H, W) class ids; uint8 where there are at most 256 classes, else int32.
        facts: Names and colours of the classes.
        image: (H, W, 3) uint8, RGB: what was segmented, turned as its EXIF orientation says.
        probabilities: (C, H, W) float32, which sum to 1 at each pixel; None where they were not asked for.
    """

    ids: Ids
    facts: DataFacts
    image: UInt8Array
    probabilities: FloatArray | None = None

    def shares(self) -> dict[str, float]:
        """What share of the pixels each class has, 0 to 1: the classes that occur, the largest share first."""
        shares = shares_of(self.ids)
        largest_first = sorted(shares, key=lambda label: -shares[label])
        return {self.facts.class_names[label]: shares[label] for label in largest_first}

    def uncertainty(self) -> npt.NDArray[np.float32]:
        """How undecided the model is: (H, W) float32, the entropy of the probabilities over its largest, 0 to 1.

        Raises:
            UserError: The probabilities were not kept.
        """
        if self.probabilities is None:
            raise UserError("uncertainty() needs the probabilities: segment with probabilities=True.")
        p = self.probabilities
        entropy = -(p * np.log(np.maximum(p, np.finfo(np.float32).tiny))).sum(0) / np.log(len(p))
        return np.asarray(entropy.clip(0, 1), dtype=np.float32)

    def colours(self) -> UInt8Array:
        """(H, W, 3) uint8, RGB: each pixel in the colour of its class."""
        return painted(self.ids, self.facts)

    def overlay(self, alpha: float = 0.5) -> UInt8Array:
        """The image with the colours of the classes over it.

        Args:
            alpha: Share of the colours, 0 (the image) to 1 (the colours).

        Returns:
            (H, W, 3) uint8, RGB.

        Raises:
            UserError: No such share.
        """
        return blended(self.image, self.ids, self.facts, alpha=alpha)

    def palette_png(self) -> bytes:
        """The class ids as a PNG file whose palette has the classes' colours.

        A palette holds 256 classes; where there are more, the file is RGB and has the colours alone.
        """
        return png_bytes(palette_image(self.ids, self.facts))

    def ids_png(self) -> bytes:
        """The class ids as the grey values of a PNG file: of 8 bits, or of 16 where there are more than 256 classes.

        Raises:
            UserError: There are more than 65,536 classes.
        """
        return png_bytes(ids_image(self.ids, self.facts))


def as_ids(labels: npt.NDArray[Any], facts: DataFacts) -> Ids:
    """Class ids in the type that holds all classes: uint8 or int32."""
    if facts.num_classes <= IN_A_BYTE:
        return np.asarray(labels, dtype=np.uint8)
    return np.asarray(labels, dtype=np.int32)


def shares_of(ids: Ids) -> dict[int, float]:
    """What share of the pixels each class has that occurs, by class id."""
    found, counts = np.unique(ids, return_counts=True)
    return {int(label): float(count / ids.size) for label, count in zip(found, counts, strict=True)}


def painted(ids: Ids, facts: DataFacts) -> UInt8Array:
    """(H, W) -> (H, W, 3): each pixel in the colour of its class."""
    return np.asarray(facts.palette, dtype=np.uint8)[ids]


def blended(image: UInt8Array, ids: Ids, facts: DataFacts, *, alpha: float) -> UInt8Array:
    """An image under the colours of its classes; see `Segmentation.overlay`."""
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha={alpha}: give a number from 0 (the image alone) to 1 (the colours alone).")
    # In whole numbers, of 256: floats of a large image would take twelve times its memory.
    share = round(256 * alpha)
    mixed = image.astype(np.uint16) * np.uint16(256 - share) + painted(ids, facts) * np.uint16(share)
    return ((mixed + 128) >> 8).clip(0, 255).astype(np.uint8)


def palette_image(ids: Ids, facts: DataFacts) -> Image.Image:
    """A palette picture of class ids; RGB where there are more classes than a palette holds."""
    if facts.num_classes > IN_A_BYTE:
        return Image.fromarray(painted(ids, facts))
    picture = Image.fromarray(ids.astype(np.uint8, copy=False), mode="L")
    picture.putpalette([value for colour in facts.palette for value in colour])
    return picture


def ids_image(ids: Ids, facts: DataFacts) -> Image.Image:
    """A grey picture of class ids."""
    if facts.num_classes > IN_TWO_BYTES:
        raise UserError(
            f"{facts.num_classes} classes do not fit into the 16 bits of a PNG: keep probabilities instead."
        )
    return Image.fromarray(ids if facts.num_classes <= IN_A_BYTE else ids.astype(np.uint16))


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()

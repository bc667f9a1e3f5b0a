"""Images that somebody gives to the page: bounded in bytes and pixels, and refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fastfcn.data.decoding import image_size, read_image
from fastfcn.errors import BadSampleError, UserError
from fastfcn.types import UInt8Array

#: Letters of a file's name that a sentence shows.
_SHOWN = 60


class Limits(NamedTuple):
    """What the page takes.

    Attributes:
        megabytes: of a file.
        megapixels: of an image, of which a small file can hold more than the memory does.
        side: pixels of the longer side that the models are given; a larger image is reduced to it.
    """

    megabytes: int = 20
    megapixels: int = 50
    side: int = 1024


class Upload(NamedTuple):
    """An image as it was given.

    Attributes:
        path: the file.
        name: what its owner calls it; nothing but words to show.
    """

    path: Path
    name: str


class Picture(NamedTuple):
    """An image as the models are given it.

    Attributes:
        pixels: (H, W, 3) uint8, RGB.
        name: of the file.
        full_size: its height and width as it was given.
    """

    pixels: UInt8Array
    name: str
    full_size: tuple[int, int]

    @property
    def reduced(self) -> bool:
        """Whether it is smaller here than as it was given."""
        return self.pixels.shape[:2] != self.full_size


def read(upload: Upload, limits: Limits) -> Picture:
    """Read an image, turned as its EXIF orientation says, and reduce it to what the models are given.

    Raises:
        UserError: too many bytes or pixels, or no image; told by the name that its owner knows.
    """
    name = shortened(upload.name)
    if not upload.path.is_file():
        raise UserError(f"{name} is no longer there: choose it again.")
    if upload.path.stat().st_size > limits.megabytes * 2**20:
        raise UserError(f"{name} is larger than {limits.megabytes} MB: reduce it, or start the page with upload_mb=...")
    try:
        height, width = image_size(upload.path, exif=True)
        if height * width > limits.megapixels * 10**6:
            raise UserError(
                f"{name} has {width} × {height} pixels, more than {limits.megapixels} million: reduce it, or start the "
                "page with megapixels=..."
            )
        pixels, full_size = read_image(upload.path, exif=True, enough=lambda h, w: fitted(h, w, limits.side))
    except BadSampleError as error:
        raise UserError(
            f"{name} cannot be read as an image, or is damaged: choose another file, a JPEG, PNG or WebP."
        ) from error
    wanted = fitted(*full_size, limits.side)
    if pixels.shape[:2] != wanted:
        pixels = np.asarray(cv2.resize(pixels, wanted[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Picture(pixels, upload.name, full_size)


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width whose longer one is `side` at most, of nearly the same proportion; 1 at least."""
    longer = max(height, width)
    if longer <= side:
        return height, width
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))


def shortened(name: str) -> str:
    """A file's name as a sentence shows it: printable, its folder left out, and not too long."""
    plain = "".join(letter for letter in name.replace("\\", "/").rpartition("/")[2] if letter.isprintable())
    return (plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 1]}…") or "The file"

"""Data sets whose images and masks are files: what the folder layout, Pascal Context and ADE20K have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from fastfcn.data.decoding import image_size, read_image, read_mask, whole
from fastfcn.data.pairing import Pair, Unpaired
from fastfcn.data.palette import Color, decode_colors
from fastfcn.errors import SizeMismatchError, UnknownLabelError
from fastfcn.types import IGNORE_INDEX, DataFacts, Enough, Int16Array, RawSample

UNKNOWN = IGNORE_INDEX - 1  # what a mask value stands for that is no class and not ignored


class FileDataset:
    """Reads pairs of an image and a mask.

    Args:
        samples: The pairs, in order. A pair without mask is an image of which nothing is known.
        facts: Of the data set.
        id_of_value: (65536,), from a mask's value to the class id, IGNORE_INDEX or UNKNOWN.
        id_of_color: From the colours of RGB masks to class id or IGNORE_INDEX; none where masks are never RGB.
        exif: Turn images as their EXIF orientation says. The masks of data sets whose tools ignored it fit the pixels
            as they are stored.
        ignored: What else to say of a value that is no class, e.g. ``nor data.dataset.ignore_index=255``.
        findings: What has no partner, where that was not to be refused.
    """

    def __init__(
        self,
        samples: Sequence[Pair],
        *,
        facts: DataFacts,
        id_of_value: Int16Array,
        id_of_color: Mapping[Color, int] | None = None,
        exif: bool = True,
        ignored: str = "",
        findings: Sequence[Unpaired] = (),
    ) -> None:
        self.samples = tuple(samples)
        self.facts = facts
        self.exif = exif
        self.findings = tuple(findings)
        self._id_of_value = id_of_value
        self._id_of_color = id_of_color or {}
        self._ignored = ignored

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labelled(self) -> bool:
        """Whether there are masks; there are none for images of a test server."""
        return any(sample.mask is not None for sample in self.samples)

    def __getitem__(self, index: int) -> RawSample:
        """Read an image and its mask.

        Raises:
            BadSampleError: A file cannot be read, the two differ in size, or the mask holds a value that is no class.
        """
        return self.read(index, enough=whole)

    def read(self, index: int, *, enough: Enough) -> RawSample:
        """As `__getitem__`, the image decoded at a reduced scale where that is enough.

        Raises:
            BadSampleError: As `__getitem__`.
        """
        name, image_path, mask_path = self.samples[index]
        image, size = read_image(image_path, exif=self.exif, enough=enough)
        if mask_path is None:
            return RawSample(image=image, mask=np.full(size, IGNORE_INDEX, dtype=np.int16), name=name)
        mask = self.mask(index)
        if mask.shape != size:
            turned = " (turned as its EXIF orientation says)" if self.exif else ""
            raise SizeMismatchError(
                f"{self.told(index)} is {mask.shape[1]} x {mask.shape[0]} pixels, but {image_path} is {size[1]} x "
                f"{size[0]}{turned}: make a mask of the image's size."
            )
        return RawSample(image=image, mask=mask, name=name)

    def size_of(self, index: int) -> tuple[str, tuple[int, int]]:
        """Name, and height and width in pixels, of an image, from its file's header.

        Raises:
            BadSampleError: The file cannot be read.
        """
        name, path, _ = self.samples[index]
        return name, image_size(path, exif=self.exif)

    def told(self, index: int) -> str:
        """What the mask of a sample is called in a message."""
        return str(self.samples[index].mask)

    def mask(self, index: int) -> Int16Array:
        """Class ids of a sample that has a mask, (H, W) int16.

        Raises:
            BadSampleError: The mask cannot be read, or holds a value that is no class.
        """
        sample = self.samples[index]
        assert sample.mask is not None
        values = read_mask(sample.mask)
        if values.ndim == 3:
            return decode_colors(values.astype(np.uint8, copy=False), self._id_of_color, path=sample.mask)
        mask: Int16Array
        if values.dtype == np.uint8:
            mask = np.asarray(cv2.LUT(values, self._id_of_value[:256]), dtype=np.int16)
        else:
            last = len(self._id_of_value) - 1
            mask = np.where(values < 0, np.int16(UNKNOWN), self._id_of_value[values.clip(0, last)])
        if mask.size and mask.min() == UNKNOWN:
            raise UnknownLabelError(
                f"{sample.mask} holds the value {values[mask == UNKNOWN][0]}, which is none of the "
                f"{self.facts.num_classes} classes{self._ignored}."
            )
        return mask


def id_of_value(num_classes: int, *, first: int = 0) -> Int16Array:
    """The look-up table of masks in which class 0 has the value `first`, and smaller values count nowhere."""
    table = np.full(1 << 16, UNKNOWN, dtype=np.int16)
    table[first : first + num_classes] = np.arange(num_classes)
    table[:first] = IGNORE_INDEX
    return table

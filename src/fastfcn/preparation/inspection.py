"""One sample under the doctor's eyes: what it holds, and what is wrong or odd about it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fastfcn.data.decoding import ORIENTATION, opened
from fastfcn.data.files import FileDataset
from fastfcn.data.reading import read_bytes
from fastfcn.errors import BadSampleError, SizeMismatchError, UnknownLabelError
from fastfcn.types import IGNORE_INDEX, SegmentationDataset

Severity = Literal["error", "warning"]

#: What may be found, and whether training can start all the same.
KINDS: Mapping[str, Severity] = {
    "unopened split": "error",
    "missing image": "error",
    "missing mask": "error",
    "unreadable file": "error",
    "mask of another size": "error",
    "unknown label": "error",
    "no labels to train on": "error",
    "mask without image": "warning",
    "duplicate over splits": "warning",
    "duplicate within a split": "warning",
    "mask without labels": "warning",
    "class not in training": "warning",
    "turned by EXIF": "warning",
    "CMYK image": "warning",
    "16-bit image": "warning",
    "tiny image": "warning",
}

#: Short side in pixels below which an image is told as tiny: one cell of a backbone's last map at stride 32.
TINY = 32


@dataclass(frozen=True)
class Finding:
    """Something wrong or odd.

    Attributes:
        kind: A key of `KINDS`.
        split: Where.
        text: A sentence that names the file.
    """

    kind: str
    split: str
    text: str

    @property
    def severity(self) -> Severity:
        """Whether training can start in spite of it."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class Inspected:
    """A sample.

    Attributes:
        split: Its split.
        where: The image's path, or the sample's name where there are no files.
        size: (H, W) in pixels; None where it cannot be read.
        digest: Of the decoded image; equal for equal pixels, however they are stored.
        pixels: Number of pixels of each class, and behind them of the ignored ones.
        findings: What is wrong or odd.
    """

    split: str
    where: str
    size: tuple[int, int] | None
    digest: bytes | None
    pixels: tuple[int, ...]
    findings: tuple[Finding, ...]


def inspect(datasets: Mapping[str, SegmentationDataset], job: tuple[str, int]) -> Inspected:
    """Decode a sample in full.

    Args:
        datasets: By split.
        job: Split and index.
    """
    split, index = job
    dataset = datasets[split]
    files = dataset if isinstance(dataset, FileDataset) else None
    found: list[Finding] = []
    where = str(files.samples[index].image) if files else f"{split}[{index}]"
    size, digest, pixels = None, None, (0,) * (dataset.facts.num_classes + 1)
    try:
        if files:
            found += (Finding(kind, split, text) for kind, text in _oddities(files.samples[index].image, files.exif))
        image, mask, name = dataset[index]
    except BadSampleError as error:
        found.append(Finding(_kind(error), split, str(error)))
    else:
        if files is None:
            where = name
        size = (image.shape[0], image.shape[1])
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=repr(size).encode()).digest()
        pixels = _count(mask, dataset.facts.num_classes)
        if min(size) < TINY:
            found.append(Finding("tiny image", split, f"{where} is {size[1]} x {size[0]} pixels."))
        if not any(pixels[:-1]) and (files is None or files.samples[index].mask is not None):
            told = files.told(index) if files else where
            found.append(Finding("mask without labels", split, f"{told}: every pixel counts nowhere."))
    return Inspected(split, where, size, digest, pixels, tuple(found))


def _kind(error: BadSampleError) -> str:
    if isinstance(error, SizeMismatchError):
        return "mask of another size"
    return "unknown label" if isinstance(error, UnknownLabelError) else "unreadable file"


def _count(mask: np.ndarray, num_classes: int) -> tuple[int, ...]:
    """Pixels of each class, then the ignored ones."""
    assert IGNORE_INDEX == -1, "the ignored label is counted before class 0"
    ignored, *classes = np.bincount(mask.ravel().astype(np.int64) + 1, minlength=num_classes + 1).tolist()
    return (*classes, ignored)


def _oddities(path: Path, exif: bool) -> Iterator[tuple[str, str]]:
    """What a viewer, or another program, may show otherwise than it is trained on; from the header alone."""
    data = read_bytes(path)
    with opened(data, path) as file:
        mode, orientation = file.mode, int(file.getexif().get(ORIENTATION, 1))
    if mode == "CMYK":
        yield "CMYK image", f"{path} is converted to RGB without its colour profile: save it as RGB."
    if mode.startswith("I") or _is_png_of_16_bits(data):
        yield "16-bit image", f"{path} is cut down to 8 bits: save it with 8 if its range is not the full one."
    if orientation not in (0, 1):
        done = (
            "turned as its EXIF orientation says" if exif else "used as it is stored, its EXIF orientation not minded"
        )
        yield "turned by EXIF", f"{path} is {done}: see that its mask was drawn in the same way."


def _is_png_of_16_bits(data: bytes) -> bool:
    """Of a PNG with three channels, Pillow's mode does not tell."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 24 and struct.unpack_from(">B", data, 24)[0] == 16

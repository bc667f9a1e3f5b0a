"""Images that are segmented in tiles from file to file: neither their pixels nor their class ids are held in memory.

The pixels are decoded into a file of no name beside the predictions, which the system keeps in memory as long as there
is room; class ids and overlay are written row of tiles by row of tiles.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np

from fastfcn.errors import UnreadableError, UserError
from fastfcn.prediction import images, tiles
from fastfcn.prediction.headers import Header, check_whole
from fastfcn.prediction.legend import Legend
from fastfcn.prediction.outputs import not_written
from fastfcn.prediction.png_rows import IdRows, file_for, rgb
from fastfcn.prediction.segmentation import blended
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.types import UInt8Array

#: Kinds of pixels that OpenCV makes the same RGB of as Pillow.
_SAME = frozenset({"RGB", "RGBA", "L", "LA", "P", "PA", "1", "I;16"})

#: What OpenCV refuses from on.
MOST_PIXELS = 1 << 30

#: Seconds between two lines on the progress of one image.
SECONDS = 10.0


@contextmanager
def mapped(path: Path, about: Header, *, folder: Path) -> Iterator[UInt8Array]:
    """The pixels of an image, (H, W, 3) uint8 RGB, in a file.

    What only Pillow reads as it should (CMYK, 32 bits, a TIFF that is turned) comes in memory, if it is not too large.

    Args:
        path: Of the image.
        about: Its header.
        folder: Where there is room for 3 bytes a pixel.

    Raises:
        BadSampleError: It is damaged.
        UserError: It is too large, or there is no room.
    """
    if about.mode not in _SAME or (about.format == "TIFF" and about.orientation > 1):
        yield images.read(path)
        return
    if about.height * about.width >= MOST_PIXELS:
        raise UserError(
            f"{path} has {about.height * about.width:,} pixels, {MOST_PIXELS:,} are too many: cut it first."
        )
    check_whole(path, about)
    height, width = (about.width, about.height) if about.orientation >= 5 else (about.height, about.width)
    size = height * width * 3
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # or the system ends the process where the disk is full
        except OSError as error:
            raise not_written(folder, error) from error
        memory = mmap.mmap(file.fileno(), size)
        pixels = np.frombuffer(memory, dtype=np.uint8).reshape(height, width, 3)
        read = cv2.imread(str(path), pixels, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if read is None or not np.shares_memory(read, pixels):
            raise UnreadableError(f"{path} cannot be read as an image (damaged): replace it or leave it out.")
        if hasattr(mmap, "MADV_DONTNEED"):
            memory.madvise(mmap.MADV_DONTNEED)  # they stay in the file
        yield turned(pixels, about.orientation)


def turned(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """A view of stored pixels as they are to be seen, by the orientation of EXIF."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    down, across = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def segment(
    segmenter: Segmenter,
    path: Path,
    about: Header,
    targets: Mapping[str, Path],
    *,
    side: int,
    alpha: float,
    batch_size: int,
) -> dict[str, float]:
    """Segment an image in tiles and write the pictures that are wanted of it.

    Args:
        segmenter: Who segments.
        path: Of the image.
        about: Its header.
        targets: The files to write, by kind: `mask`, `ids`, `overlay`.
        side: Of the tiles, in pixels.
        alpha: Share of the colours in the overlay.
        batch_size: Tiles that go through the model together.

    Returns:
        What share of the pixels each class has that occurs, by name.

    Raises:
        BadSampleError: The image is damaged.
        UserError: A kind that is not written of tiles, a file that cannot be written, or no room.
    """
    facts, height, width = segmenter.facts, about.height, about.width
    if "probabilities" in targets:
        size = 2 * facts.num_classes * height * width / 1e9
        raise UserError(
            f"{path} has {width} x {height} pixels and is segmented in tiles, of which no probabilities are kept "
            f"({size:.1f} GB): cut the image, or leave probabilities out of output."
        )
    print(f"{path.name}: {width} x {height} pixels, in tiles of {side}", flush=True)
    folder = next(iter(targets.values())).parent
    folder.mkdir(parents=True, exist_ok=True)
    with mapped(path, about, folder=folder) as image, ExitStack() as stack:
        files = {kind: stack.enter_context(file_for(target)) for kind, target in targets.items()}
        ids = [IdRows(files[k], width, height, facts, coloured=k == "mask") for k in ("mask", "ids") if k in files]
        legend = Legend(facts, width)
        overlay = rgb(files["overlay"], legend.width, height + legend.height) if "overlay" in files else None
        counts, told = np.zeros(facts.num_classes, np.int64), time.monotonic()
        found = tiles.bands(segmenter.predict, image, facts, side=side, halo=segmenter.halo, batch_size=batch_size)
        for band in found:
            counts += np.bincount(band.ids.ravel(), minlength=facts.num_classes)
            for rows in ids:
                rows.write(band.ids)
            if overlay is not None:
                picture = blended(image[band.rows], band.ids, facts, alpha=alpha)
                overlay.write(np.pad(picture, ((0, 0), (0, legend.width - width), (0, 0)), constant_values=255))
            if time.monotonic() - told > SECONDS:
                told = time.monotonic()
                print(f"{path.name}: {band.rows.stop:,} of {height:,} rows", flush=True)
        shares = counts / (height * width)
        occurring = np.flatnonzero(counts)
        if overlay is not None:
            overlay.write(legend.draw({int(label): float(shares[label]) for label in occurring}))
            overlay.finish()
        for rows in ids:
            rows.finish()
    return {facts.class_names[label]: float(shares[label]) for label in occurring[np.argsort(-shares[occurring])]}

"""PNG files written a few rows at a time: what is in memory is those rows, however large the picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastfcn.data.decoding import PNG
from fastfcn.prediction.outputs import not_written
from fastfcn.prediction.segmentation import IN_A_BYTE, Ids, painted
from fastfcn.types import DataFacts, UInt8Array
from fastfcn.whole_files import replacing

#: Colour types of the format.
_GREY, _RGB, _PALETTE = 0, 2, 3

#: A row's filter: none, or the difference to the pixel before, which makes photographs smaller.
_NONE, _SUB = 0, 1


class PngRows:
    """A PNG file that is being written, from the top row on; see `ids`, `mask` and `rgb`.

    Args:
        file: Where to.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        depth: Bits of a channel, 8 or 16.
        colour: Type of the pixels, as the format numbers them.
        palette: (R, G, B) of each value, where the pixels are values of a palette.
    """

    def __init__(
        self,
        file: BinaryIO,
        width: int,
        height: int,
        *,
        depth: int,
        colour: int,
        palette: tuple[tuple[int, int, int], ...] = (),
    ) -> None:
        self._file = file
        self._deflate = zlib.compressobj(6)
        self._colour = colour
        file.write(PNG)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        if palette:
            self._chunk(b"PLTE", bytes(value for entry in palette for value in entry))

    def write(self, rows: UInt8Array | Ids) -> None:
        """Append rows: (rows, W) values, or (rows, W, 3) RGB."""
        if rows.dtype.itemsize > 1:
            rows = rows.astype(">u2").view(np.uint8)
        values = np.ascontiguousarray(rows).view(np.uint8)
        kind = _NONE
        if self._colour == _RGB:
            kind, before = _SUB, values.copy()
            before[:, 1:] -= values[:, :-1]
            values = before
        flat = values.reshape(len(values), -1)
        filtered = np.concatenate([np.full((len(flat), 1), kind, np.uint8), flat], axis=1)
        if data := self._deflate.compress(filtered.tobytes()):
            self._chunk(b"IDAT", data)

    def finish(self) -> None:
        """Write what is left."""
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, kind: bytes, data: bytes) -> None:
        self._file.write(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        )


class IdRows:
    """Class ids as a PNG file, row by row: grey values, or as values of a palette of the classes' colours.

    Args:
        file: Where to.
        width: In pixels.
        height: In pixels.
        facts: Of the classes.
        coloured: With the palette; more classes than it holds become RGB.
    """

    def __init__(self, file: BinaryIO, width: int, height: int, facts: DataFacts, *, coloured: bool) -> None:
        small = facts.num_classes <= IN_A_BYTE
        self._painted = facts if coloured and not small else None
        colour = _GREY if not coloured else _PALETTE if small else _RGB
        palette = facts.palette if colour == _PALETTE else ()
        depth = 8 if small or coloured else 16
        self._png = PngRows(file, width, height, depth=depth, colour=colour, palette=palette)

    def write(self, ids: Ids) -> None:
        """Append rows of class ids, (rows, W)."""
        self._png.write(ids if self._painted is None else painted(ids, self._painted))

    def finish(self) -> None:
        """Write what is left."""
        self._png.finish()


def rgb(file: BinaryIO, width: int, height: int) -> PngRows:
    """An RGB picture that is being written."""
    return PngRows(file, width, height, depth=8, colour=_RGB)


@contextmanager
def file_for(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears under its name when it is whole.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            yield file
    except OSError as error:
        raise not_written(path, error) from error

"""What image files of any size say of themselves, and whether they are whole, without their pixels in memory."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from fastfcn.data.decoding import DAMAGE, ORIENTATION, PNG
from fastfcn.errors import UnreadableError


class Header(NamedTuple):
    """What an image file says of itself.

    Attributes:
        height: Rows of the image as it is seen, turned as its EXIF orientation says.
        width: Its columns.
        mode: Kind of its pixels, as Pillow calls it.
        orientation: Of EXIF, 1 to 8.
        format: Of the file, as Pillow calls it.
    """

    height: int
    width: int
    mode: str
    orientation: int
    format: str


def header(path: Path) -> Header:
    """Read what an image file says of itself, of any size.

    Raises:
        BadSampleError: It is no image, or cannot be read.
    """
    try:
        with path.open("rb") as stream, _opened(stream) as file:
            width, height = file.size
            turn = int(_exif(file, path).get(ORIENTATION, 1))
            turn = turn if 1 <= turn <= 8 else 1
            if turn >= 5 and file.format != "TIFF":  # of which Pillow tells the size as it is seen
                height, width = width, height
            return Header(height, width, file.mode, turn, file.format or "")
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or of an unknown format"
        raise UnreadableError(f"{path} cannot be read as an image ({reason}): replace it or leave it out.") from error


def _opened(stream: BinaryIO) -> Image.Image:
    """As Image.open, which refuses large images before anybody knows that they are not to be held in memory."""
    Image.init()
    start = stream.read(16)
    for name in Image.ID:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(start) is not True:
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise ValueError("no format")


def _exif(file: Image.Image, path: Path) -> Image.Exif:
    """What EXIF says; Pillow decodes a whole PNG to look behind its pixels."""
    if not isinstance(file, PngImageFile):
        return file.getexif()
    with path.open("rb") as stream:
        stream.seek(len(PNG))
        while "exif" not in file.info and len(start := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"eXIf":
                file.info["exif"] = b"Exif\0\0" + stream.read(length)
            stream.seek(length + 4, os.SEEK_CUR)
    return Image.Image.getexif(file)


def check_whole(path: Path, about: Header) -> None:
    """Find a file damaged that OpenCV would read in part and say nothing.

    Args:
        path: Of the image.
        about: Its header.

    Raises:
        BadSampleError: A PNG whose checksums are others, or a file that ends too soon.
    """
    whole = True
    with path.open("rb") as file:
        if about.format == "PNG":
            whole = file.read(len(PNG)) == PNG and _chunks_are_whole(file)
        elif about.format in ("JPEG", "MPO"):
            whole = _scan_ends(file)
    if not whole:
        raise UnreadableError(f"{path} cannot be read as an image (truncated or damaged): replace it or leave it out.")


def _scan_ends(file: BinaryIO) -> bool:
    """Whether the pixels of a JPEG end with its mark; a picture of the header's does not count, what follows may."""
    file.seek(2)
    while len(mark := file.read(4)) == 4 and mark[0] == 0xFF:
        if mark[1] == 0xDA:  # the pixels begin, in which the mark cannot occur
            break
        file.seek(struct.unpack(">H", mark[2:])[0] - 2, os.SEEK_CUR)
    before = b""
    while part := file.read(1 << 20):
        if b"\xff\xd9" in before + part:
            return True
        before = part[-1:]
    return False


def _chunks_are_whole(file: BinaryIO) -> bool:
    """Whether all chunks of a PNG have their checksums and the last one is the end."""
    read = file.read
    while len(start := read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        checksum, left = zlib.crc32(kind), length
        while left and (part := read(min(left, 1 << 20))):
            checksum, left = zlib.crc32(part, checksum), left - len(part)
        if left or read(4) != struct.pack(">I", checksum):
            return False
        if kind == b"IEND":
            return True
    return False

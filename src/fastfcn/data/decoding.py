"""From files to arrays: images as 8-bit RGB, masks as the values that stand in the file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps

from fastfcn.data.reading import read_bytes
from fastfcn.errors import BadSampleError, UnreadableError
from fastfcn.types import Enough, UInt8Array

#: The tag of the orientation in EXIF; 1, or none, is upright.
ORIENTATION = 0x0112

#: How a PNG begins.
PNG = b"\x89PNG\r\n\x1a\n"

#: What Pillow raises over damaged files of all formats.
DAMAGE = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


def whole(height: int, width: int) -> tuple[int, int]:
    """The `Enough` of whoever needs every pixel."""
    return height, width


@contextmanager
def opened(data: bytes, path: Path) -> Iterator[Image.Image]:
    """An image file, open; whatever Pillow finds wrong with it while it is read is the sample's fault.

    Args:
        data: Content of the file.
        path: Where it came from, for the message.

    Raises:
        BadSampleError: It is damaged or no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as file:
            yield file
    except BadSampleError:
        raise
    except DAMAGE as error:
        reason = str(error).replace(f" {io.BytesIO.__name__}", "").partition("<_io")[0].strip() or "damaged"
        raise UnreadableError(
            f"{path} cannot be read as an image ({reason}): replace it or take it out of the split."
        ) from error


def fits(height: int, width: int) -> bool:
    """Whether an image has no more pixels than Pillow opens, 179 million: a small file can hold more than memory."""
    return Image.MAX_IMAGE_PIXELS is None or height * width <= 2 * Image.MAX_IMAGE_PIXELS


def read_image(path: Path, *, exif: bool, enough: Enough = whole) -> tuple[UInt8Array, tuple[int, int]]:
    """Read an image of any format as 8-bit RGB.

    A plain JPEG is decoded by libjpeg-turbo, at 1/2, 1/4 or 1/8 where that is enough: shrinking inside the inverse DCT
    costs less than decoding. Everything else (palettes, CMYK, 16 bits, EXIF turns, and files that libjpeg-turbo warns
    of) goes through Pillow, whose pixels are the same ones for a plain JPEG.

    Args:
        path: The file.
        exif: Turn the image as its EXIF orientation says.
        enough: The least size that is needed.

    Returns:
        The image, (h, w, 3) uint8, and its height and width at full scale.

    Raises:
        BadSampleError: The file cannot be read, is truncated, or has floating-point pixels.
    """
    data = read_bytes(path)
    if data.startswith(b"\xff\xd8") and not (exif and is_turned(data)):
        try:
            height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
            if colors in ("YCbCr", "Gray") and fits(height, width):  # else Pillow refuses it, and says so
                least_height, least_width = enough(height, width)
                image: UInt8Array = simplejpeg.decode_jpeg(
                    data, min_height=least_height, min_width=least_width, min_factor=2
                )
                return image, (height, width)
        except ValueError:
            pass  # a warning or an error: Pillow accepts what is merely odd and refuses what is truncated
    with opened(data, path) as file:
        _check_pixels(data)
        return as_rgb(file, path, exif=exif)


def image_size(path: Path, *, exif: bool) -> tuple[int, int]:
    """Height and width of an image in pixels, from its header.

    Args:
        path: The file.
        exif: Turn the image as its EXIF orientation says.

    Raises:
        BadSampleError: The file cannot be read.
    """
    with opened(read_bytes(path), path) as file:
        width, height = file.size
        # Pillow tells the size of a TIFF as it is seen.
        turn = int(file.getexif().get(ORIENTATION, 1)) if exif and file.format != "TIFF" else 1
        lies = 5 <= turn <= 8  # turned by a quarter
    return (width, height) if lies else (height, width)


def is_turned(data: bytes) -> bool:
    """Whether the EXIF orientation in a JPEG file's bytes asks for a turn or a mirror image."""
    if data.find(b"Exif\0\0", 0, 1 << 16) < 0:
        return False
    try:
        with Image.open(io.BytesIO(data)) as file:
            return int(file.getexif().get(ORIENTATION, 1)) not in (0, 1)
    except DAMAGE:
        return False


def as_rgb(file: Image.Image, path: Path, *, exif: bool) -> tuple[UInt8Array, tuple[int, int]]:
    """An open image as 8-bit RGB, (h, w, 3) uint8, and its height and width; its EXIF turn is done in place.

    Raises:
        BadSampleError: It is damaged, or has floating-point pixels.
    """
    if exif:
        ImageOps.exif_transpose(file, in_place=True)
    if file.mode == "F":
        raise UnreadableError(f"{path} has floating-point pixels: save it with 8 or 16 bits per channel.")
    if file.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would cut off at 255
        image = np.repeat((np.asarray(file) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    else:
        image = np.array(file.convert("RGB"))
    return image, (image.shape[0], image.shape[1])


def read_mask(path: Path) -> npt.NDArray[np.integer]:
    """The pixel values of a mask.

    Returns:
        (H, W) of grey values or palette indices, uint8 where the file has 8 bits; (H, W, 3) uint8 where it is RGB.

    Raises:
        BadSampleError: The file cannot be read, is truncated, or has pixels of another kind.
    """
    data = read_bytes(path)
    if (plain := plain_png(data)) is not None:
        return plain
    with opened(data, path) as file:
        _check_pixels(data)
        mode = file.mode
        if mode in ("RGB", "RGBA"):
            return np.asarray(file.convert("RGB"))
        values = np.asarray(file)
    if values.ndim != 2 or mode == "F":
        raise UnreadableError(f"{path} has pixels of kind {mode}: save the mask as a grey or palette PNG of class ids.")
    return values.astype(np.uint8) if mode == "1" else values


def plain_png(data: bytes) -> UInt8Array | None:
    """Decode a PNG of 8-bit grey values or palette indices whose rows are not filtered, as masks mostly are.

    Such a file is its pixels, deflated: nothing is left to do but to inflate them, at twice Pillow's speed.

    Args:
        data: Content of the file.

    Returns:
        (H, W); None where it is another kind of PNG, or damaged: then Pillow decodes it or says what is wrong.
    """
    if not data.startswith(PNG) or len(data) < 33:
        return None
    width, height, depth, color, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if depth != 8 or color not in (0, 3) or interlace or not fits(height, width):
        return None
    chunks = list(_chunks(data))
    if not chunks or chunks[-1][0] != b"IEND" or chunks[-1][2] + 4 != len(data):
        return None  # truncated, or something follows
    pixels = [data[start:end] for kind, start, end in chunks if kind == b"IDAT"]
    size = height * (width + 1)
    try:
        stream = zlib.decompressobj()
        inflated = stream.decompress(b"".join(pixels), size + 1)  # no more of a bomb
    except (zlib.error, OverflowError):
        return None
    if len(inflated) != size or not stream.eof:
        return None
    rows = np.frombuffer(inflated, dtype=np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else np.ascontiguousarray(rows[:, 1:])


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and end of what each chunk of a PNG holds; its checksum, 4 bytes, stands at the end."""
    position = len(PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, position + 8 + length
        position += 12 + length


def _check_pixels(data: bytes) -> None:
    """Find a PNG's pixels damaged by their checksums, which Pillow does not look at.

    Raises:
        ValueError: They are.
    """
    if not data.startswith(PNG):
        return
    for kind, start, end in _chunks(data):
        if kind == b"IDAT" and data[end : end + 4] != struct.pack(">I", zlib.crc32(data[start - 4 : end])):
            raise ValueError("the checksum of its pixels is another")

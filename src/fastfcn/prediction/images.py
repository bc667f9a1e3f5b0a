"""Images of every kind that a caller may have, as 8-bit RGB."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from fastfcn.data.decoding import as_rgb, opened, read_image
from fastfcn.errors import BadSampleError, UnreadableError, UserError
from fastfcn.types import UInt8Array

#: A path or file:// URL, the bytes of an image file, a picture of Pillow, (H, W, 3) uint8, or a tensor (3, H, W) uint8.
ImageLike = str | Path | bytes | Image.Image | npt.NDArray[Any] | Tensor

#: What a reader of data sets advises, and what is to be done here.
_OF_DATA, _HERE = "take it out of the split", "leave it out"


def pixels(image: ImageLike) -> UInt8Array:
    """An image as 8-bit RGB, turned as its EXIF orientation says.

    Grey, palette and CMYK images become RGB; of 16 bits per channel the upper 8 are kept; an alpha channel is dropped
    and nothing blended; of an animated file it is the first frame.

    Args:
        image: See `ImageLike`. Arrays are RGB, (H, W, 3), (H, W, 4) or (H, W), uint8 or uint16; tensors (3, H, W)
            uint8, as `torchvision.io` reads them.

    Returns:
        (H, W, 3) uint8, contiguous.

    Raises:
        BadSampleError: A file cannot be read as an image.
        UserError: It is nothing that can be an image.
    """
    if isinstance(image, str | Path):
        return read(local_path(image))
    if isinstance(image, bytes):
        return decode(image, "the bytes")
    if isinstance(image, Image.Image):
        return as_rgb(image.copy(), Path("the image"), exif=True)[0]
    if isinstance(image, Tensor):
        return _of_array(image.detach().cpu().numpy(), "tensor", first=True)
    if isinstance(image, np.ndarray):
        return _of_array(image, "array", first=False)
    raise UserError(
        f"image is a {type(image).__name__}: give a path, the bytes of a file, a Pillow image, an array or a tensor."
    )


def read(path: Path) -> UInt8Array:
    """An image file as (H, W, 3) uint8.

    Raises:
        BadSampleError: It cannot be read as an image.
    """
    try:
        return np.ascontiguousarray(read_image(path.expanduser(), exif=True)[0])
    except BadSampleError as error:
        raise UnreadableError(str(error).replace(_OF_DATA, _HERE)) from error


def decode(data: bytes, name: str) -> UInt8Array:
    """An image file's bytes as (H, W, 3) uint8.

    Args:
        data: Of the file.
        name: What it is called in messages.

    Raises:
        BadSampleError: They are no image.
    """
    path = Path(name)
    try:
        with opened(data, path) as file:
            return np.ascontiguousarray(as_rgb(file, path, exif=True)[0])
    except BadSampleError as error:
        raise UnreadableError(str(error).replace(_OF_DATA, _HERE)) from error


def local_path(place: str | Path) -> Path:
    """The path of a file, given as such or as a file:// URL with its percent signs.

    Raises:
        UserError: A URL of another kind or of another machine.
    """
    if isinstance(place, Path) or "://" not in place:
        return Path(place)
    url = urllib.parse.urlsplit(place)
    if url.scheme.lower() != "file" or url.netloc not in ("", "localhost"):
        raise UserError(f"{place}: only files of this machine are read, file:///...: download it and give its path.")
    return Path(urllib.request.url2pathname(url.path))


def _of_array(values: npt.NDArray[Any], kind: str, *, first: bool) -> UInt8Array:
    """An array whose channels come first or last."""
    if first and values.ndim == 4 and len(values) == 1:
        values = values[0]
    if first and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or 0 in values.shape:
        wanted = "(3, H, W)" if first else "(H, W, 3)"
        raise UserError(f"image is a {kind} of shape {tuple(values.shape)}: give RGB, {wanted}.")
    if values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    if values.dtype != np.uint8:
        raise UserError(f"image is a {kind} of {values.dtype}: give bytes (uint8), 0 to 255, not normalised.")
    rgb = values[..., :3] if values.shape[2] > 1 else values.repeat(3, axis=2)
    return np.ascontiguousarray(rgb)

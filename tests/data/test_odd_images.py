"""Images that are valid though unusual work as users of the field expect; what is no image is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastfcn.data.decoding import image_size, read_image, read_mask
from fastfcn.errors import UnreadableError
from fastfcn.types import UInt8Array

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def saved(path: Path, array: npt.NDArray[Any]) -> Path:
    Image.fromarray(array).save(path)
    return path


def pixels(path: Path) -> UInt8Array:
    image, size = read_image(path, exif=True)
    assert image.dtype == np.uint8
    assert image.shape == (*size, 3)
    assert image_size(path, exif=True) == size
    return image


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (2, 3)])
def test_single_pixels_and_lines(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    image = pixels(saved(tmp_path / f"a.{suffix}", np.full((*size, 3), 200, np.uint8)))
    assert image.shape == (*size, 3)
    assert np.abs(image.astype(int) - 200).max() <= 2


def test_the_alpha_channel_is_dropped(tmp_path: Path) -> None:
    """Colours as they are stored, also where they are transparent: as cv2 and torchvision read them."""
    for alpha in (0, 128, 255):
        with_alpha = np.dstack([RGB, np.full(GREY.shape, alpha, np.uint8)])
        assert (pixels(saved(tmp_path / "a.png", with_alpha)) == RGB).all()
    grey_alpha = saved(tmp_path / "b.png", np.dstack([GREY, GREY]))
    assert (pixels(grey_alpha) == GREY[..., None]).all()


def test_16_bits_become_8(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    for suffix in ("png", "tif"):
        assert (pixels(saved(tmp_path / f"a.{suffix}", deep)) == GREY[..., None]).all()


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], lossless=True)
    with Image.open(tmp_path / f"a.{suffix}") as file:
        assert file.n_frames == 2  # type: ignore[attr-defined]
    assert (pixels(tmp_path / f"a.{suffix}") == RGB).all()


def test_cmyk_and_palette_with_transparency(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - RGB).mean() < 12
    palette = Image.fromarray(RGB).quantize(12)
    palette.save(tmp_path / "b.png", transparency=3)
    assert (pixels(tmp_path / "b.png") == np.asarray(palette.convert("RGB"))).all()


def png(path: Path, width: int, height: int, *, depth: int, color: int) -> Path:
    """A black PNG, written row by row: its pixels would not fit into memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = bytes(1 + (width * depth + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def test_a_side_of_30_000_pixels(tmp_path: Path) -> None:
    wide = png(tmp_path / "wide.png", 30_000, 3, depth=8, color=0)
    assert pixels(wide).shape == (3, 30_000, 3)
    assert read_mask(wide).shape == (3, 30_000)


def test_30_000_pixels_squared_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    paths = [png(tmp_path / "bits.png", 30_000, 30_000, depth=1, color=0)]
    jpeg = bytearray(saved(tmp_path / "small.jpg", np.zeros((16, 16, 3), np.uint8)).read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 30_000, 30_000)
    paths.append(tmp_path / "large.jpg")
    paths[-1].write_bytes(jpeg)
    for path in paths:
        with pytest.raises(UnreadableError, match=r"30000 x 30000|900000000") as caught:
            read_image(path, exif=True)
        assert str(path) in str(caught.value)
        with pytest.raises(UnreadableError):
            read_mask(path)
    bytes_each = tmp_path / "bytes.png"
    content = bytearray(saved(bytes_each, GREY).read_bytes())
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    bytes_each.write_bytes(content)
    with pytest.raises(UnreadableError):
        read_mask(bytes_each)


@pytest.mark.parametrize(
    "content", [b"", b"a text file\n", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg/>"], ids=repr
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_what_is_no_image_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (lambda: read_image(path, exif=True), lambda: read_mask(path), lambda: image_size(path, exif=True)):
        with pytest.raises(UnreadableError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "replace it or take it out of the split" in str(caught.value)


def test_a_folder_in_an_images_place(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(UnreadableError, match="a directory"):
        read_image(tmp_path / "a.jpg", exif=True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_size_that_a_header_tells_is_that_of_the_pixels(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (24, 16), (200, 30, 30)).save(tmp_path / f"a{suffix}", exif=exif)
    for turn in (True, False) if suffix == ".jpg" else (True,):
        read, _ = read_image(tmp_path / f"a{suffix}", exif=turn)
        assert image_size(tmp_path / f"a{suffix}", exif=turn) == read.shape[:2]

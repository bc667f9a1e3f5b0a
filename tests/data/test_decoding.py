from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastfcn.data.decoding import plain_png, read_image, read_mask
from fastfcn.data.files import FileDataset, id_of_value
from fastfcn.data.pairing import Pair
from fastfcn.errors import BadSampleError
from fastfcn.types import DataFacts, Enough
from tests.data.tiny import is_one_sentence_with

FACTS = DataFacts(name="tiny", class_names=("a", "b"), palette=((0, 0, 0), (255, 255, 255)))


def photo(height: int = 90, width: int = 121) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_has_the_pixels_that_pillow_sees(tmp_path: Path, quality: int, subsampling: int, mode: str) -> None:
    path = saved(tmp_path / "a.jpg", photo().convert(mode), quality=quality, subsampling=subsampling)
    image, size = read_image(path, exif=True)
    assert size == (90, 121)
    np.testing.assert_array_equal(image, np.asarray(Image.open(path).convert("RGB")))


def asks(least: tuple[int, int]) -> Enough:
    return lambda height, width: least


def test_a_reduced_scale_where_it_is_enough(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo(), quality=95)
    full, _ = read_image(path, exif=True)
    for least, expected in (((45, 61), (45, 61)), ((20, 30), (23, 31)), ((46, 20), (90, 121)), ((500, 600), (90, 121))):
        image, size = read_image(path, exif=True, enough=asks(least))
        assert size == (90, 121)
        assert image.shape[:2] == expected
        if expected == (45, 61):
            averaged = np.asarray(Image.fromarray(full).reduce(2)).astype(int)
            assert np.abs(image.astype(int) - averaged).mean() < 2


@pytest.mark.parametrize("mode", ["CMYK", "P", "LA", "RGBA", "I;16"])
def test_other_kinds_become_rgb(tmp_path: Path, mode: str) -> None:
    image = photo().convert("L").convert("I;16") if mode == "I;16" else photo().convert(mode)
    path = saved(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), image)
    array, size = read_image(path, exif=True)
    assert array.shape == (*size, 3) == (90, 121, 3)
    assert array.dtype == np.uint8


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.jpg", photo(), exif=exif)
    stored = np.asarray(Image.open(path))
    np.testing.assert_array_equal(read_image(path, exif=False)[0], stored)
    turned = {1: stored, 3: stored[::-1, ::-1], 6: np.rot90(stored, -1)}[orientation]
    np.testing.assert_array_equal(read_image(path, exif=True)[0], turned)


def test_a_truncated_or_foreign_image_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo(300, 400), quality=95)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-200], whole[:20], b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(BadSampleError) as caught:
            read_image(path, exif=True)
        is_one_sentence_with(caught.value, [str(path), "replace it or take it out of the split"])
        assert "BytesIO" not in str(caught.value)
    path.unlink()
    with pytest.raises(BadSampleError, match=r"a\.jpg cannot be read \(No such file"):
        read_image(path, exif=True)


def test_an_odd_jpeg_is_read_all_the_same(tmp_path: Path) -> None:
    """Bytes behind the end, or a stray byte before a marker: libjpeg-turbo warns, the pixels are there."""
    path = saved(tmp_path / "a.jpg", photo(), quality=95)
    whole, expected = path.read_bytes(), np.asarray(Image.open(path))
    for content in (whole + b"trailing", whole[:2] + b"\xff\xff" + whole[3:]):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_image(path, exif=True)[0], expected)


def ids() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 151, (37, 53), dtype=np.uint8)


def palette_png() -> Image.Image:
    image = Image.fromarray(ids(), "P")
    image.putpalette(list(range(256)) * 3)
    return image


@pytest.mark.parametrize("make", [palette_png, lambda: Image.fromarray(ids())], ids=["palette", "grey"])
def test_masks_keep_their_values(tmp_path: Path, make: Callable[[], Image.Image]) -> None:
    path = saved(tmp_path / "a.png", make())
    values = read_mask(path)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, ids())


def test_an_unfiltered_png_is_inflated_alone() -> None:
    file = io.BytesIO()
    palette_png().save(file, "PNG")
    data = file.getvalue()
    plain = plain_png(data)
    assert plain is not None
    np.testing.assert_array_equal(plain, ids())
    for damaged in (data[:-1], data[:-12], data[: len(data) // 2], data[:-40] + b"\0" + data[-39:], b""):
        assert plain_png(damaged) is None
    for other in ("1", "I;16", "RGB"):
        file = io.BytesIO()
        (photo().convert("L").convert(other) if other == "I;16" else photo().convert(other)).save(file, "PNG")
        assert plain_png(file.getvalue()) is None


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: data[:60], lambda data: b"GIF" + data])
def test_a_damaged_mask_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = saved(tmp_path / "a.png", palette_png())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadSampleError, match=r"a\.png cannot be read as an image"):
        read_mask(path)


def pair(folder: Path, mask: npt.NDArray[np.generic], size: tuple[int, int] = (37, 53)) -> FileDataset:
    image = saved(folder / "a.jpg", photo(*size))
    sample = Pair("a", image, saved(folder / "a.png", Image.fromarray(mask)))
    return FileDataset([sample], facts=FACTS, id_of_value=id_of_value(2, first=1), ignored=" (0 to 2)")


def test_values_become_class_ids(tmp_path: Path) -> None:
    dataset = pair(tmp_path, ids() % 3)
    raw = dataset[0]
    np.testing.assert_array_equal(raw.mask, (ids() % 3).astype(np.int16) - 1)
    assert raw.mask.dtype == np.int16
    assert dataset.labelled


def test_an_image_without_mask_is_unknown_everywhere(tmp_path: Path) -> None:
    image = saved(tmp_path / "a.jpg", photo(37, 53))
    dataset = FileDataset([Pair("a", image, None)], facts=FACTS, id_of_value=id_of_value(2))
    assert not dataset.labelled
    assert (dataset[0].mask == -1).all()
    assert dataset[0].mask.shape == (37, 53)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_value_that_is_no_class_is_named(tmp_path: Path, kind: type[np.generic]) -> None:
    mask = (ids() % 3).astype(kind)
    mask[5, 7] = 200
    with pytest.raises(BadSampleError, match=r"a\.png holds the value 200, which is none of the 2 classes \(0 to 2\)"):
        pair(tmp_path, mask)[0]


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match=r"a\.png is 53 x 37 pixels, but .*a\.jpg is 60 x 40"):
        pair(tmp_path, ids() % 3, size=(40, 60))[0]

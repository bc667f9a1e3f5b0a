"""Tiles equal the whole where the model's sight is bounded, and memory does not grow with the image."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastfcn.errors import BadSampleError, UserError
from fastfcn.prediction import large, tiles
from fastfcn.prediction.headers import header
from fastfcn.prediction.segmenter import Segmenter
from tests.prediction.pictures import FACTS, near, noise, save, strongest


@given(st.integers(1, 700), st.sampled_from([(64, 0), (96, 32), (256, 64), (320, 128)]))
@settings(deadline=None, max_examples=60)
def test_what_is_kept_covers_every_pixel_once(length: int, how: tuple[int, int]) -> None:
    side, halo = how
    found = tiles.spans(length, side=side, halo=halo)
    assert [pixel for span in found for pixel in range(span.keep_first, span.keep_last)] == list(range(length))
    for span in found:
        assert span.last - span.first <= side
        assert span.first % tiles.STRIDE == 0
        assert span.first == 0 or span.keep_first - span.first == halo
        assert span.last == length or span.last - span.keep_last == halo


@pytest.mark.parametrize("size", [(300, 200), (97, 401), (96, 96), (33, 500)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_are_the_whole(size: tuple[int, int], batch_size: int) -> None:
    model, image = near(32), noise(*size)
    expected = Segmenter(model, FACTS, tile=None)(image, probabilities=True)
    cut = Segmenter(model, FACTS, tile=128, halo=32)
    found = cut(image, probabilities=True)
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.probabilities is not None
    assert expected.probabilities is not None
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    bands = list(tiles.bands(cut.predict, image, FACTS, side=128, halo=32, batch_size=batch_size))
    np.testing.assert_array_equal(np.concatenate([band.ids for band in bands]), expected.ids)
    assert len(np.unique(expected.ids)) == 3


def test_a_halo_that_is_too_small_shows() -> None:
    image = noise(300, 300)
    expected = Segmenter(near(32), FACTS, tile=None)(image)
    assert (Segmenter(near(32), FACTS, tile=64, halo=0)(image).ids != expected.ids).any()


@pytest.mark.parametrize(
    ("tile", "halo", "words"),
    [
        (100, 0, "tile=100"),
        (128, 50, "halo=50"),
        (256, 128, "choose tile=288"),
        ("many", 0, "auto"),
        (-32, 0, "tile=-32"),
    ],
)
def test_tiles_that_cannot_be(tile: int, halo: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Segmenter(strongest, FACTS, tile=tile, halo=halo)


def test_which_images_are_cut() -> None:
    segmenter = Segmenter(strongest, FACTS)
    assert segmenter.tile_side(4096, 4096) is None
    assert segmenter.tile_side(4097, 4096) == 1024
    assert Segmenter(strongest, FACTS, tile=None).tile_side(9999, 9999) is None
    assert Segmenter(strongest, FACTS, tile=512).tile_side(100, 513) == 512
    assert Segmenter(strongest, FACTS, tile=512).tile_side(512, 512) is None


def in_tiles(path: Path, out: Path, side: int = 96) -> dict[str, float]:
    targets = {kind: out / f"{kind}.png" for kind in ("mask", "ids", "overlay")}
    segmenter = Segmenter(strongest, FACTS, tile=side, halo=0)
    return large.segment(segmenter, path, header(path), targets, side=side, alpha=0.5, batch_size=2)


@pytest.mark.parametrize(
    ("suffix", "orientation"),
    [("bmp", 1), *((suffix, turn) for suffix in ("png", "tif", "jpg") for turn in range(1, 9))],
)
def test_from_file_to_file_is_as_in_memory(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(cv2.resize(noise(12, 18), (350, 201))).save(path, exif=exif)
    expected = Segmenter(strongest, FACTS, tile=None)(path)
    shares = in_tiles(path, tmp_path)
    with Image.open(tmp_path / "ids.png") as file:
        ids = np.asarray(file)
    with Image.open(tmp_path / "mask.png") as file:
        colours = np.asarray(file.convert("RGB"))
    with Image.open(tmp_path / "overlay.png") as file:
        overlay = np.asarray(file)[: ids.shape[0], : ids.shape[1]]
    assert (ids == expected.ids).mean() == 1
    np.testing.assert_array_equal(colours, expected.colours())
    np.testing.assert_array_equal(overlay, expected.overlay())
    assert shares == pytest.approx(expected.shares())
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        [f"a.{suffix}", "ids.png", "mask.png", "overlay.png"]
    )


def test_a_cmyk_image_is_read_by_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(noise(200, 200)).convert("CMYK").save(path)
    in_tiles(path, tmp_path)
    with Image.open(tmp_path / "ids.png") as file:
        np.testing.assert_array_equal(np.asarray(file), Segmenter(strongest, FACTS)(path).ids)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_damaged_image_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path, 300, 300)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadSampleError, match=re.escape(str(path))):
        in_tiles(path, tmp_path / "out")
    assert not [each for each in tmp_path.rglob("*.png") if each != path]


def test_what_follows_the_pixels_of_a_jpeg_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    save(path, 200, 200)
    expected = Segmenter(strongest, FACTS)(path)
    path.write_bytes(path.read_bytes() + b"a film of the moment" * 10_000)
    in_tiles(path, tmp_path)
    with Image.open(tmp_path / "ids.png") as file:
        np.testing.assert_array_equal(np.asarray(file), expected.ids)


def test_no_image_has_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for content in (b"", b"a text file", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(BadSampleError, match="cannot be read"):
            header(path)


def test_probabilities_are_not_kept_of_tiles(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save(path, 200, 200)
    segmenter = Segmenter(strongest, FACTS, tile=96, halo=0)
    with pytest.raises(UserError, match="leave probabilities out"):
        large.segment(
            segmenter, path, header(path), {"probabilities": tmp_path / "p.npz"}, side=96, alpha=0.5, batch_size=1
        )


def own_memory() -> int:
    """Of this process, in kB; files that it has mapped are not its own."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1])


def growth_over(path: Path, out: Path) -> int:
    """By how many kB the process grows while it segments an image in tiles."""
    gc.collect()
    before, most, ended = own_memory(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        in_tiles(path, out, side=256)
    finally:
        ended.set()
        watcher.join()
    return most[0] - before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """Bands are as wide as the image: what may grow is a row of tiles, and the height must not matter."""
    for name, height in (("low", 1024), ("high", 8192)):
        picture = np.zeros((height, 2048, 3), np.uint8)
        picture[::7] = 200
        Image.fromarray(picture).save(tmp_path / f"{name}.png", compress_level=1)
        del picture
    growth_over(tmp_path / "low.png", tmp_path / "warm")
    low = growth_over(tmp_path / "low.png", tmp_path / "low")
    high = growth_over(tmp_path / "high.png", tmp_path / "high")
    assert high < max(low, 0) + 12_000, "the pixels of the higher image are 48,000 kB, its ids 16,000"

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from fastfcn.data.geometry import View, image_crop, mask_crop, resized
from fastfcn.types import Int16Array, UInt8Array

HEIGHT, WIDTH = 150, 200


@pytest.fixture(scope="module")
def picture() -> UInt8Array:
    """Shapes with hard edges on a smooth ground: what a shift by a fraction of a pixel shows on."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(20):
        centre = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        color = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.circle(image, centre, int(rng.integers(3, 25)), color, -1)
    return np.asarray(image, dtype=np.uint8)


def views(count: int, *, crop: int = 96) -> list[tuple[int, View]]:
    """Draws of the training recipe, whose short side at scale 1 is 150 pixels."""
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(count):
        short = int(rng.integers(75, 301))
        size = resized(HEIGHT, WIDTH, short)
        height, width = min(crop, size[0]), min(crop, size[1])
        top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
        drawn.append((short, View(size, top, left, height, width)))
    return drawn


def test_a_crop_is_the_crop_of_pillows_resized_whole(picture: UInt8Array) -> None:
    worst, means = 0, []
    for _, view in views(300):
        whole = np.asarray(Image.fromarray(picture).resize(view.size[::-1], Image.Resampling.BILINEAR)).astype(int)
        expected = whole[view.top : view.top + view.height, view.left : view.left + view.width]
        crop = image_crop(picture, view, full=(HEIGHT, WIDTH))
        assert crop.shape == expected.shape
        difference = np.abs(crop.astype(int) - expected)
        worst = max(worst, int(difference.max()))
        means.append(difference.mean())
    # A window begins at most 1/32 of a pixel off the grid of each axis: 255 / 32 grey levels each at the hardest edge.
    assert worst <= 16
    assert np.mean(means) < 0.2
    assert np.max(means) < 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_masks_are_pillows_to_the_pixel(flip: bool) -> None:
    mask: Int16Array = np.random.default_rng(0).integers(-1, 150, (HEIGHT, WIDTH)).astype(np.int16)
    for _, view in views(100):
        whole = np.asarray(
            Image.fromarray(mask.astype(np.int32), "I").resize(view.size[::-1], Image.Resampling.NEAREST)
        )
        expected = whole[view.top : view.top + view.height, view.left : view.left + view.width]
        crop = mask_crop(mask, view, flip=flip)
        assert crop.dtype == np.int16
        np.testing.assert_array_equal(crop, expected[:, ::-1] if flip else expected)


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(600, 800), (601, 803)])
def test_a_reduced_image_shows_the_same_place(reduction: int, height: int, width: int) -> None:
    ys, xs = np.mgrid[:height, :width]
    ramp = np.stack([xs * 255 / width, ys * 255 / height, 0 * xs], axis=-1)  # tells the place of each pixel
    size = -(-height // reduction), -(-width // reduction)
    padded = np.pad(ramp, ((0, size[0] * reduction - height), (0, size[1] * reduction - width), (0, 0)), mode="edge")
    small = padded.reshape(size[0], reduction, size[1], reduction, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    view = View((height // 4, width // 4), 30, 50, 60, 70)
    place = image_crop(small, view, full=(height, width)).astype(float)
    expected_x = (np.arange(50, 120) + 0.5) / (width // 4) * 255
    expected_y = (np.arange(30, 90) + 0.5) / (height // 4) * 255
    assert np.abs(place[..., 0] - expected_x).max() < 1.5  # grey levels, each more than two pixels wide
    assert np.abs(place[..., 1] - expected_y[:, None]).max() < 1.5


@pytest.mark.parametrize(
    ("height", "width", "short", "size"),
    [(375, 500, 520, (520, 693)), (500, 375, 520, (693, 520)), (40, 40, 7, (7, 7)), (1, 1000, 3, (3, 3000))],
)
def test_the_short_side_decides(height: int, width: int, short: int, size: tuple[int, int]) -> None:
    assert resized(height, width, short) == size

"""The training augmentation against the official recipe, written out from its description with Pillow alone."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter, ImageOps
from scipy import stats

from fastfcn.data.augment import TrainTransform
from fastfcn.types import IGNORE_INDEX, RawSample

BASE, CROP = 52, 48


class Seen(NamedTuple):
    """What a crop tells of its draw; nan where it does not show."""

    scale: float  # source pixels per target pixel
    x: float  # source column at the left of the crop
    y: float  # source row at its top
    flipped: bool
    padded: float  # share of the crop
    sharpness: float


def ramps(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Red tells the column, green the row, blue is a fine texture."""
    ys, xs = np.mgrid[:height, :width]
    texture = np.random.default_rng(0).integers(0, 256, (height, width))
    return np.stack([xs * 255 / width, ys * 255 / height, texture], axis=-1).astype(np.uint8)


def official(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    picture, mask = Image.fromarray(image), Image.new("L", image.shape[1::-1], 1)
    if random.random() < 0.5:
        picture, mask = ImageOps.mirror(picture), ImageOps.mirror(mask)
    short = random.randint(BASE // 2, BASE * 2)
    width, height = picture.size
    size = (short, height * short // width) if height > width else (width * short // height, short)
    picture, mask = picture.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
    border = (0, 0, max(CROP - size[0], 0), max(CROP - size[1], 0))
    picture, mask = ImageOps.expand(picture, border, 0), ImageOps.expand(mask, border, 0)
    left, top = random.randint(0, picture.width - CROP), random.randint(0, picture.height - CROP)
    box = (left, top, left + CROP, top + CROP)
    picture, mask = picture.crop(box), mask.crop(box)
    if random.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(random.random()))
    return np.asarray(picture), np.asarray(mask).astype(np.int16) - 1


def seen(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.int16], *, source: tuple[int, int]) -> Seen:
    known = mask != IGNORE_INDEX
    height, width = int(known[:, 0].sum()), int(known[0].sum())
    part = image[:height, :width].astype(float)
    middle = slice(2, -2)  # blur mixes the borders with the padding
    columns = part[middle, :, 0].mean(axis=0) * source[1] / 255
    rows = part[:, middle, 1].mean(axis=1) * source[0] / 255
    slope, x = np.polyfit(np.arange(2, width - 2), columns[middle], 1)
    fall, y = np.polyfit(np.arange(2, height - 2), rows[middle], 1)
    texture = part[middle, middle, 2]
    return Seen(
        scale=float(fall),
        x=float(x if slope > 0 else x + slope * width),
        y=float(y),
        flipped=bool(slope < 0),
        padded=1 - float(known.mean()),
        sharpness=float(np.abs(np.diff(texture, axis=1)).mean() + np.abs(np.diff(texture, axis=0)).mean()),
    )


@pytest.mark.parametrize(("height", "width"), [(60, 80), (75, 50)])
def test_draws_have_the_distribution_of_the_official_recipe(height: int, width: int) -> None:
    image = ramps(height, width)
    raw = RawSample(image, np.zeros((height, width), np.int16), "ramps")
    transform = TrainTransform(base_size=BASE, crop_size=CROP)
    random.seed(0)
    count = 1500
    theirs = [seen(*official(image), source=(height, width)) for _ in range(count)]
    ours = []
    for seed in range(count):
        sample = transform(raw, seed=seed)
        array = sample["image"].permute(1, 2, 0).numpy()
        ours.append(seen(array, sample["mask"].numpy(), source=(height, width)))
    for field in ("scale", "x", "y", "padded", "sharpness"):
        one, two = ([getattr(draw, field) for draw in draws] for draws in (ours, theirs))
        # Seven comparisons for two sizes of picture: one in a thousand keeps a false alarm below 1.4 %.
        assert stats.ks_2samp(one, two).pvalue > 1e-3, field
    flips = [[draw.flipped for draw in draws].count(True) for draws in (ours, theirs)]
    assert stats.fisher_exact([[flips[0], count - flips[0]], [flips[1], count - flips[1]]]).pvalue > 1e-3
    # And together: the place of a crop must not depend on its scale otherwise than in the original.
    joint = [[draw.x / draw.scale + draw.y for draw in draws] for draws in (ours, theirs)]
    assert stats.ks_2samp(*joint).pvalue > 1e-3


def test_the_comparison_sees_a_wrong_recipe() -> None:
    image = ramps(60, 80)
    raw = RawSample(image, np.zeros((60, 80), np.int16), "ramps")
    random.seed(0)
    theirs = [seen(*official(image), source=(60, 80)) for _ in range(1500)]
    for setting, field in (({"scale": (0.5, 1.8)}, "scale"), ({"blur": 0.3}, "sharpness")):
        transform = TrainTransform(base_size=BASE, crop_size=CROP, **setting)
        ours = []
        for seed in range(1500):
            sample = transform(raw, seed=seed)
            array = sample["image"].permute(1, 2, 0).numpy()
            ours.append(seen(array, sample["mask"].numpy(), source=(60, 80)))
        values = [[getattr(draw, field) for draw in draws] for draws in (ours, theirs)]
        assert stats.ks_2samp(*values).pvalue < 1e-3, field

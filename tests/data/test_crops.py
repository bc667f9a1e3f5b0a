from __future__ import annotations

import numpy as np
import pytest

from fastfcn.data.augment import TrainTransform
from fastfcn.data.crops import BalancedCrops
from fastfcn.data.geometry import View, mask_crop
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX, Int16Array, RawSample


def skewed() -> Int16Array:
    """Class 0 all over, but for a block of 4 x 4 of class 2 and a column of nothing known."""
    mask = np.zeros((60, 80), np.int16)
    mask[50:54, 70:74] = 2
    mask[:, 5] = IGNORE_INDEX
    return mask


VIEW = View((60, 80), 0, 0, 20, 20)


def test_half_of_the_crops_around_a_class_show_the_rare_one() -> None:
    crops = BalancedCrops(class_crops=1.0)
    views = [crops.move(VIEW, skewed(), seed=seed) for seed in range(300)]
    shares = [bool((mask_crop(skewed(), view) == 2).any()) for view in views]
    assert 0.4 < np.mean(shares) < 0.65
    blind = [mask_crop(skewed(), View((60, 80), top, left, 20, 20)) for top in range(41) for left in range(61)]
    assert np.mean(shares) > 3 * np.mean([(mask == 2).any() for mask in blind])
    for view in views:
        assert 0 <= view.top <= 40
        assert 0 <= view.left <= 60
        assert view[3:] == (20, 20)


@pytest.mark.parametrize("size", [(60, 80), (30, 40), (120, 160), (61, 83)])
def test_the_pixel_is_in_the_middle_where_the_image_reaches(size: tuple[int, int]) -> None:
    mask = np.full((60, 80), IGNORE_INDEX, np.int16)
    mask[30, 40] = 1
    view = BalancedCrops(class_crops=1.0).move(View(size, 0, 0, 9, 9), mask, seed=3)
    assert abs(view.top + 4.5 - 30.5 * size[0] / 60) <= 0.5
    assert abs(view.left + 4.5 - 40.5 * size[1] / 80) <= 0.5


def test_a_crop_of_one_class_is_drawn_again() -> None:
    """With a share of 0.98, 4 x 4 of 400 pixels do."""
    crops = BalancedCrops(cat_max_ratio=0.98)
    shown = [(mask_crop(skewed(), crops.move(VIEW, skewed(), seed=seed)) == 2).any() for seed in range(100)]
    blind = BalancedCrops(cat_max_ratio=1.0)
    assert np.mean(shown) > 0.2
    assert not (mask_crop(skewed(), blind.move(VIEW, skewed(), seed=0)) == 2).any()
    mixed = np.indices((60, 80)).sum(0).astype(np.int16) % 2  # what is mixed stays
    assert crops.move(VIEW, mixed, seed=0) == VIEW


def test_what_moves_is_a_function_of_the_seed_and_moves_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    raw = RawSample(image, skewed(), "a")
    options = {"base_size": 60, "crop_size": 20, "scale": (1.0, 1.0), "flip": 0.5, "blur": 0.0}
    plain, moved = TrainTransform(**options), TrainTransform(**options, crops=BalancedCrops(class_crops=1.0))  # type: ignore[arg-type]
    off = TrainTransform(**options, crops=BalancedCrops())  # type: ignore[arg-type]
    differ = 0
    for seed in range(20):
        first, again = moved(raw, seed=seed), moved(raw, seed=seed)
        assert first["image"].equal(again["image"])
        assert first["mask"].equal(again["mask"])
        assert plain(raw, seed=seed)["image"].equal(off(raw, seed=seed)["image"])
        differ += not first["image"].equal(plain(raw, seed=seed)["image"])
    assert differ > 10


def test_an_image_without_labels_keeps_its_crop() -> None:
    nothing = np.full((60, 80), IGNORE_INDEX, np.int16)
    assert BalancedCrops(class_crops=1.0).move(VIEW, nothing, seed=0) == VIEW
    assert BalancedCrops(cat_max_ratio=0.5).move(VIEW, nothing, seed=0)[3:] == (20, 20)


def test_values_that_make_no_sense() -> None:
    with pytest.raises(UserError, match=r"data\.cat_max_ratio=0"):
        BalancedCrops(cat_max_ratio=0)
    with pytest.raises(UserError, match=r"data\.class_crops=2"):
        BalancedCrops(class_crops=2)

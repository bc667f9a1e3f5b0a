from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from fastfcn.data.augment import EvalTransform, Sample, TrainTransform
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX, Int16Array, RawSample, UInt8Array


def coded_sample(height: int, width: int) -> RawSample:
    """An image whose red is 2 x the class of the pixel, so that the two can be compared after any geometry."""
    mask: Int16Array = np.zeros((height, width), np.int16)
    mask[: height // 2, width // 2 :] = 60
    mask[height // 2 :] = 120
    image: UInt8Array = np.repeat((2 * mask).astype(np.uint8)[..., None], 3, axis=2)
    image[..., 2] = 255  # tells the image from black padding
    return RawSample(image=image, mask=mask, name="coded")


def pixels(sample: Sample) -> Tensor:
    """(3, H, W) in 0..255, as numbers that can be subtracted."""
    return sample["image"].float()


def recipe(
    *,
    base_size: int = 60,
    crop_size: int = 48,
    scale: Sequence[float] = (0.5, 2.0),
    flip: float = 0.5,
    blur: float = 0.5,
) -> TrainTransform:
    return TrainTransform(base_size=base_size, crop_size=crop_size, scale=scale, flip=flip, blur=blur)


@pytest.mark.parametrize(("height", "width"), [(97, 131), (20, 33), (48, 48), (7, 90), (1, 1)])
def test_a_crop_has_its_size_and_types(height: int, width: int) -> None:
    sample = recipe()(coded_sample(height, width), seed=3)
    assert sample["image"].shape == (3, 48, 48)
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].permute(1, 2, 0).is_contiguous()
    assert sample["mask"].shape == (48, 48)
    assert sample["mask"].dtype == torch.int16
    assert sample["name"] == "coded"


def test_the_mask_goes_with_its_image() -> None:
    for seed in range(30):
        sample = recipe(blur=0)(coded_sample(90, 120), seed=seed)
        mask, image = sample["mask"], pixels(sample)
        known = mask != IGNORE_INDEX
        assert set(mask.unique().tolist()) <= {IGNORE_INDEX, 0, 60, 120}  # nearest: no class in between
        off = (image[0] - 2 * mask).abs()[known] > 1
        assert off.float().mean() < 0.12  # bilinear mixes the pixels along the borders only
        assert image[2][known].min() > 254
        assert image[:, ~known].abs().max() < 1e-3 if (~known).any() else True


def test_padding_is_on_the_right_and_at_the_bottom() -> None:
    sample = recipe(base_size=20, scale=(1, 1), flip=0, blur=0)(coded_sample(20, 30), seed=0)
    assert (sample["mask"][:20, :30] != IGNORE_INDEX).all()
    assert (sample["mask"][20:] == IGNORE_INDEX).all()
    assert (sample["mask"][:, 30:] == IGNORE_INDEX).all()
    assert (sample["image"][:, 20:] == 0).all()
    assert (sample["image"][:, :, 30:] == 0).all()


def test_short_sides_are_uniform_over_the_scale_range() -> None:
    # The image is padded and, in this crop, never cut: the known part of the mask is the resized image.
    transform = recipe(base_size=20, crop_size=80, flip=0, blur=0)
    sides = [int((transform(coded_sample(40, 60), seed=s)["mask"][:, 0] != IGNORE_INDEX).sum()) for s in range(600)]
    assert min(sides) == 10
    assert max(sides) == 40
    counts = np.bincount(sides, minlength=41)[10:]
    assert (counts > 0).all()
    assert np.mean(sides) == pytest.approx(25, abs=1.5)


def test_the_draws_are_independent_of_each_other() -> None:
    """A seed given to each step by itself would blur exactly the images that it flips, and crop by the scale."""
    transform = recipe(base_size=48, scale=(1, 1))
    raw = coded_sample(48, 48)
    plain = pixels(recipe(base_size=48, scale=(1, 1), flip=0, blur=0)(raw, seed=0))
    seen = np.zeros((2, 2), int)
    for seed in range(200):
        image = pixels(transform(raw, seed=seed))
        flipped = bool((image[0, 0, 0] - plain[0, 0, 0]).abs() > 50)
        blurred = bool((image - (plain.flip(-1) if flipped else plain)).abs().max() > 1)
        seen[int(flipped), int(blurred)] += 1
    # A radius below about 0.1 pixel leaves the image as it is.
    expected = 200 * np.outer([0.5, 0.5], [0.55, 0.45])
    assert ((seen - expected) ** 2 / expected).sum() < 16.3  # chi square, 3 degrees of freedom, p = 0.001


def test_the_blur_is_pils() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(2))
    raw = RawSample(image=np.array(smooth), mask=np.zeros((48, 48), np.int16), name="noise")
    transform = recipe(base_size=48, scale=(1, 1), flip=0, blur=1)
    blurred = [smooth.filter(ImageFilter.GaussianBlur(i / 20)) for i in range(21)]
    candidates = [np.array(image).astype(float) for image in blurred]
    radii = []
    for seed in range(40):
        image = pixels(transform(raw, seed=seed)).permute(1, 2, 0).numpy()
        errors = [np.abs(image - c).mean() for c in candidates]
        radii.append(int(np.argmin(errors)) / 20)
        assert min(errors) < 1  # of 255; PIL approximates the Gaussian by boxes
    assert min(radii) < 0.3
    assert max(radii) > 0.8


def test_a_seed_decides_everything() -> None:
    transform, raw = recipe(), coded_sample(70, 90)
    first = [transform(raw, seed=s)["image"] for s in range(5)]
    again = [recipe()(raw, seed=s)["image"] for s in reversed(range(5))][::-1]
    copied = pickle.loads(pickle.dumps(transform))  # noqa: S301  # as a worker process gets it
    for a, b, c in zip(first, again, [copied(raw, seed=s)["image"] for s in range(5)], strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not any(torch.equal(first[0], other) for other in first[1:])


def test_the_raw_sample_stays_as_it_was() -> None:
    raw = coded_sample(60, 60)
    image, mask = raw.image.copy(), raw.mask.copy()
    raw.image.flags.writeable = raw.mask.flags.writeable = False  # as from a memory map
    for seed in range(4):
        recipe()(raw, seed=seed)
        EvalTransform(None)(raw)["mask"].add_(1)
    assert np.array_equal(raw.image, image)
    assert np.array_equal(raw.mask, mask)


@pytest.mark.parametrize(("height", "width"), [(97, 131), (131, 97), (20, 33), (32, 32), (1, 5)])
def test_eval_takes_the_centre_at_the_crop_size(height: int, width: int) -> None:
    sample = EvalTransform(32)(coded_sample(height, width))
    assert sample["image"].shape == (3, 32, 32)
    assert sample["mask"].shape == (32, 32)
    assert (sample["mask"] != IGNORE_INDEX).all()
    if min(height, width) > 5:  # the three regions meet in the centre
        assert sample["mask"][:15, :15].unique().tolist() == [0]
        assert sample["mask"][:15, 17:].unique().tolist() == [60]
        assert sample["mask"][17:].unique().tolist() == [120]


def test_whole_images_keep_their_size_and_values() -> None:
    raw = coded_sample(37, 53)
    sample = EvalTransform(None)(raw)
    np.testing.assert_array_equal(sample["mask"].numpy(), raw.mask)
    np.testing.assert_allclose(pixels(sample).permute(1, 2, 0).numpy(), raw.image, atol=1e-3)


def test_shrinking_and_growing_is_pils() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    raw = RawSample(image=np.repeat(picture[..., None], 3, axis=2), mask=(picture // 16).astype(np.int16), name="noise")
    for side in (30, 60, 72, 130):
        width = round(120 * side / 90)
        transform = recipe(base_size=side, crop_size=width, scale=(1, 1), flip=0, blur=0)
        sample = transform(raw)
        assert int((sample["mask"][:, 0] != IGNORE_INDEX).sum()) == side
        image = np.array(Image.fromarray(picture).resize((width, side), Image.Resampling.BILINEAR)).astype(float)
        mask = np.array(Image.fromarray(picture // 16).resize((width, side), Image.Resampling.NEAREST))
        assert np.abs(pixels(sample)[0, :side].numpy() - image).max() <= 2  # of 255, of noise, the hardest case
        np.testing.assert_array_equal(sample["mask"][:side].numpy(), mask)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"scale": (2.0, 0.5)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"crop_size": 0}, "crop_size"),
        ({"base_size": 1}, "base_size"),
        ({"flip": 1.5}, "flip"),
        ({"blur": -0.1}, "blur"),
    ],
)
def test_a_senseless_setting_is_named(setting: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        recipe(**setting)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (75, 50)])
def test_crop_tells_what_a_sample_shows(height: int, width: int) -> None:
    """The mask of a sample, mirrored back, is the mask under the crop."""
    transform = TrainTransform(base_size=40, crop_size=48, blur=0)
    columns = np.tile(np.arange(width, dtype=np.int16), (height, 1))
    rows = np.tile(np.arange(height, dtype=np.int16)[:, None], (1, width))
    image = np.zeros((height, width, 3), np.uint8)
    for seed in range(20):
        view = transform.crop(height, width, seed=seed)
        across, down = (
            transform(RawSample(image, mask, "ramp"), seed=seed)["mask"].numpy() for mask in (columns, rows)
        )
        known = across != IGNORE_INDEX
        assert (known[:, 0].sum(), known[0].sum()) == (view.height, view.width)
        for seen, start, count, scale in (
            (across[known], view.left, view.width, width / view.size[1]),
            (down[known], view.top, view.height, height / view.size[0]),
        ):
            assert abs(seen.min() + 0.5 - (start + 0.5) * scale) <= 1
            assert abs(seen.max() + 0.5 - (start + count - 0.5) * scale) <= 1

"""The whole augmentation: what happens to an image and its mask between the data set and the batch."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor

from fastfcn.data.crops import BalancedCrops
from fastfcn.data.decoding import whole
from fastfcn.data.geometry import View, image_crop, mask_crop, resized
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX, Enough, Int16Array, RawSample, UInt8Array

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for the newest version
import albumentations as A


class Sample(TypedDict):
    """An image ready for a batch; it is normalised with its batch, on the device.

    Keys:
        image: (3, H, W) uint8, RGB, channels last in memory.
        mask: (H, W) int16 class ids, IGNORE_INDEX where nothing is known.
        name: unique in its split.
    """

    image: Tensor
    mask: Tensor
    name: str


class Transform(Protocol):
    """From a raw sample to one ready for a batch; a seed decides every random draw of a call."""

    def enough(self, seed: int) -> Enough:
        """The least size at which this seed's image must be decoded."""

    def __call__(self, raw: RawSample, *, seed: int = 0) -> Sample:
        """Transform one sample."""


def as_sample(raw: RawSample) -> Sample:
    """Arrays as tensors; the image's channels stay last in memory."""
    image, mask = (np.require(array, requirements=["C", "W"]) for array in (raw.image, raw.mask))
    return Sample(image=torch.from_numpy(image).permute(2, 0, 1), mask=torch.from_numpy(mask), name=raw.name)


class _Draw(NamedTuple):
    """The random numbers of one training sample.

    Attributes:
        flip: Mirror image.
        short: Short side in pixels.
        top: Place of the crop in its range of rows, in [0, 1).
        left: Place of the crop in its range of columns, in [0, 1).
        sigma: Standard deviation of the blur in pixels; 0 is none.
    """

    flip: bool
    short: int
    top: float
    left: float
    sigma: float


class TrainTransform:
    """The training augmentation of the official code.

    Mirror left and right; resize so that the short side is a whole number of pixels drawn uniformly from `scale` x
    `base_size`; pad on the right and at the bottom with black and IGNORE_INDEX up to the crop; crop at random; blur.

    Args:
        base_size: Short side in pixels at scale 1.
        crop_size: Side of the square crop in pixels.
        scale: Lowest and highest scale.
        flip: Probability of the mirror image.
        blur: Probability of a Gaussian blur.
        blur_radius: The blur's standard deviation is drawn uniformly from 0 to this, in pixels.
        augmentations: Further steps of albumentations, on the finished crop.
        crops: Where the crop is moved to; None: nowhere.

    Raises:
        UserError: A value makes no sense.
    """

    def __init__(
        self,
        *,
        base_size: int,
        crop_size: int,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        blur: float = 0.5,
        blur_radius: float = 1.0,
        augmentations: Sequence[A.BasicTransform] = (),
        crops: BalancedCrops | None = None,
    ) -> None:
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UserError(f"data.scale={list(scale)} must be two numbers, 0 < low <= high.")
        self._shorts = int(base_size * scale[0]), int(base_size * scale[1])
        if self._shorts[0] < 1 or crop_size < 1:
            raise UserError(
                f"data.base_size={base_size} x data.scale={list(scale)} and data.crop_size={crop_size} must be >= 1 "
                "pixel."
            )
        for key, probability in {"flip": flip, "blur": blur}.items():
            if not 0 <= probability <= 1:
                raise UserError(f"data.{key}={probability} is a probability and must lie between 0 and 1.")
        if blur_radius <= 0:
            raise UserError(f"data.blur_radius={blur_radius} must be positive; set data.blur=0 for no blur.")
        if wrong := [step for step in augmentations if not isinstance(step, A.BasicTransform | A.BaseCompose)]:
            raise UserError(f"data.augmentations holds {wrong[0]!r}: give steps of albumentations by their _target_.")
        self._crop_size = crop_size
        self._flip = flip
        self._blur = blur
        self._blur_radius = blur_radius
        self._crops = crops or BalancedCrops()
        self._further = A.Compose(list(augmentations)) if augmentations else None

    def enough(self, seed: int) -> Enough:
        """The size that this seed's image will be resized to, where that is smaller."""
        short = self._draw(np.random.default_rng(seed)).short
        return lambda height, width: resized(height, width, short)

    def crop(self, height: int, width: int, *, seed: int) -> View:
        """Which part of a picture of this size the seed's sample shows, before it is mirrored and padded.

        Crops that look at the mask (`fastfcn.data.crops`) may be moved from there.
        """
        draw = self._draw(np.random.default_rng(seed))
        return self._view(draw, resized(height, width, draw.short))

    def __call__(self, raw: RawSample, *, seed: int = 0) -> Sample:
        """Augment one sample; the same sample and seed give the same result, whatever was augmented before."""
        rng = np.random.default_rng(seed)
        draw = self._draw(rng)
        full = raw.mask.shape[0], raw.mask.shape[1]
        view = self._crops.move(self._view(draw, resized(*full, draw.short)), raw.mask, seed=seed)
        image, mask = image_crop(raw.image, view, full=full), mask_crop(raw.mask, view, flip=draw.flip)
        if draw.flip:
            image = np.asarray(cv2.flip(image, 1), dtype=np.uint8)
        image, mask = self._padded(image, mask)
        if draw.sigma:
            kernel = blur_kernel(draw.sigma)
            blurred = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
            image = np.asarray(blurred, dtype=np.uint8)
        if self._further is not None:
            # All steps draw from one stream. Compose.set_random_seed would give each step a stream of its own with the
            # same seed, hence the same draws.
            self._further.set_random_state(rng, random.Random(seed))
            out = self._further(image=image, mask=mask)
            image, mask = out["image"], out["mask"]
        return as_sample(RawSample(image, mask, raw.name))

    def _draw(self, rng: np.random.Generator) -> _Draw:
        """All random numbers of a sample, in an order that no other option changes."""
        flip, blur, radius, top, left = rng.random(5).tolist()
        short = int(rng.integers(self._shorts[0], self._shorts[1] + 1))
        sigma = radius * self._blur_radius if blur < self._blur else 0.0
        return _Draw(flip=flip < self._flip, short=short, top=top, left=left, sigma=sigma)

    def _view(self, draw: _Draw, size: tuple[int, int]) -> View:
        height, width = (min(side, self._crop_size) for side in size)
        top = int(draw.top * (size[0] - height + 1))
        left = int(draw.left * (size[1] - width + 1))
        return View(size, top, left, height, width)

    def _padded(self, image: UInt8Array, mask: Int16Array) -> tuple[UInt8Array, Int16Array]:
        """Up to the crop's size, on the right and at the bottom: black, and ignored."""
        side = self._crop_size
        height, width = mask.shape
        if height == width == side:
            return image, mask
        full_image, full_mask = np.zeros((side, side, 3), np.uint8), np.full((side, side), IGNORE_INDEX, np.int16)
        full_image[:height, :width] = image
        full_mask[:height, :width] = mask
        return full_image, full_mask


class EvalTransform:
    """What validation and test images go through: short side to the crop, centre crop; nothing is random.

    Args:
        crop_size: Side of the square crop in pixels; None leaves image and mask whole and at their own size.

    Raises:
        UserError: The crop is smaller than a pixel.
    """

    def __init__(self, crop_size: int | None) -> None:
        if crop_size is not None and crop_size < 1:
            raise UserError(f"crop_size={crop_size} must be >= 1 pixel.")
        self._crop_size = crop_size

    def enough(self, seed: int) -> Enough:
        """Evaluation looks at every pixel, so that a score does not depend on the decoder's scale."""
        return whole

    def __call__(self, raw: RawSample, *, seed: int = 0) -> Sample:
        """Transform one sample."""
        if self._crop_size is None:
            return as_sample(raw)
        side = self._crop_size
        full = raw.mask.shape[0], raw.mask.shape[1]
        size = resized(*full, side)
        top, left = (round((length - side) / 2) for length in size)
        view = View(size, top, left, side, side)
        image = np.ascontiguousarray(image_crop(raw.image, view, full=full))
        return as_sample(RawSample(image, mask_crop(raw.mask, view), raw.name))


def blur_kernel(sigma: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The kernel by which Pillow blurs: three passes of a box whose ends count in part (Gwosdek et al. 2011).

    A sampled Gaussian is another one where the blur is small: of a standard deviation of 0.2 pixels nothing is left.

    Args:
        sigma: Standard deviation in pixels; Pillow's `radius`.

    Returns:
        An odd number of weights, those left out that change a pixel by less than a quarter of a grey level.
    """
    variance = sigma * sigma / 3  # of one pass
    whole_radius = int((np.sqrt(12 * variance + 1) - 1) / 2)
    width = 2 * whole_radius + 1
    end = width * (whole_radius * (whole_radius + 1) - 3 * variance) / (6 * (variance - (whole_radius + 1) ** 2))
    box = np.array([end, *[1.0] * width, end]) / (width + 2 * end)
    kernel = np.convolve(np.convolve(box, box), box).astype(np.float32)
    negligible = int((kernel[: len(kernel) // 2] < 1 / 1020).sum())
    return kernel[negligible : len(kernel) - negligible]


def sample_seed(seed: int, *, epoch: int, index: int) -> int:
    """The augmentation seed of one sample in one epoch: a function of its arguments alone."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0])

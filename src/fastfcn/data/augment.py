"""The whole augmentation: what happens to an image and its mask between the data set and the model."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX, RawSample, SegmentationDataset

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for the newest version
import albumentations as A

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Sample(TypedDict):
    """An image ready for the model.

    Keys:
        image: (3, H, W) float32, normalised by the ImageNet mean and standard deviation.
        mask: (H, W) int64 class ids, IGNORE_INDEX where nothing is known.
        name: unique in its split.
    """

    image: Tensor
    mask: Tensor
    name: str


class Transform:
    """A chain of albumentations steps, then normalisation and tensors. A seed decides every random draw of a call."""

    def __init__(self, steps: Sequence[A.BasicTransform]) -> None:
        self._chain = A.Compose([*steps, A.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD)])

    def __call__(self, raw: RawSample, *, seed: int = 0) -> Sample:
        """Transform one sample; the same sample and seed give the same result, whatever was transformed before."""
        # All steps draw from one stream. Compose.set_random_seed would give each step a stream of its own with the same
        # seed, hence the same draws: an image would be blurred if and only if it is flipped.
        self._chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out = self._chain(image=raw.image, mask=raw.mask)
        image = np.ascontiguousarray(out["image"].transpose(2, 0, 1), dtype=np.float32)
        return Sample(image=torch.from_numpy(image), mask=torch.from_numpy(out["mask"].astype(np.int64)), name=raw.name)


def train_transform(
    *,
    base_size: int,
    crop_size: int,
    scale: Sequence[float] = (0.5, 2.0),
    flip: float = 0.5,
    blur: float = 0.5,
    blur_radius: float = 1.0,
) -> Transform:
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

    Raises:
        UserError: A value makes no sense.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise UserError(f"data.scale={list(scale)} must be two numbers, 0 < low <= high.")
    shortest, longest = int(base_size * scale[0]), int(base_size * scale[1])
    if shortest < 1 or crop_size < 1:
        raise UserError(
            f"data.base_size={base_size} x data.scale={list(scale)} and data.crop_size={crop_size} must be >= 1 pixel."
        )
    for key, probability in {"flip": flip, "blur": blur}.items():
        if not 0 <= probability <= 1:
            raise UserError(f"data.{key}={probability} is a probability and must lie between 0 and 1.")
    if blur_radius <= 0:
        raise UserError(f"data.blur_radius={blur_radius} must be positive; set data.blur=0 for no blur.")
    return Transform(
        [
            A.HorizontalFlip(p=flip),
            _resize(range(shortest, longest + 1)),
            A.PadIfNeeded(
                min_height=crop_size,
                min_width=crop_size,
                position="top_left",  # where the image lies, so the padding is on the right and at the bottom
                border_mode=cv2.BORDER_CONSTANT,
                fill=0,
                fill_mask=IGNORE_INDEX,
            ),
            A.RandomCrop(height=crop_size, width=crop_size),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.0, blur_radius), p=blur),  # 0: kernel sized by sigma, as PIL's
        ]
    )


def eval_transform(crop_size: int | None) -> Transform:
    """What validation and test images go through: short side to the crop, centre crop; nothing is random.

    Args:
        crop_size: Side of the square crop in pixels; None leaves image and mask whole and at their own size.

    Raises:
        UserError: The crop is smaller than a pixel.
    """
    if crop_size is None:
        return Transform([])
    if crop_size < 1:
        raise UserError(f"crop_size={crop_size} must be >= 1 pixel.")
    return Transform([_resize([crop_size]), A.CenterCrop(height=crop_size, width=crop_size)])


def _resize(short_sides: Sequence[int]) -> A.BasicTransform:
    """Resize to a short side drawn from `short_sides`, in pixels; the aspect ratio stays."""
    return A.SmallestMaxSize(
        max_size=list(short_sides),
        # Bilinear; shrinking averages over areas, since PIL's bilinear filter of the official code smooths before it
        # samples and OpenCV's does not.
        interpolation=cv2.INTER_LINEAR,
        area_for_downscale="image",
        # The plain INTER_NEAREST samples pixel corners, which shifts a mask by up to half a pixel against its image.
        mask_interpolation=cv2.INTER_NEAREST_EXACT,
    )


def sample_seed(seed: int, *, epoch: int, index: int) -> int:
    """The augmentation seed of one sample in one epoch: a function of its arguments alone."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0])


class TransformedDataset(Dataset[Sample]):
    """A data set whose samples have gone through a transform.

    It is indexed by `(index, seed)`, as the training sampler yields them, so that a sample does not depend on which
    worker process makes it nor on what was made before. A bare index means seed 0.
    """

    def __init__(self, dataset: SegmentationDataset, *, transform: Transform) -> None:
        self._dataset = dataset
        self._transform = transform

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        index, seed = key if isinstance(key, tuple) else (key, 0)
        return self._transform(self._dataset[index], seed=seed)

"""The rival arms of the loader's benchmark: the training pipeline of the official code, and albumentations'."""

from __future__ import annotations

import os
import random

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from fastfcn.data.files import FileDataset
from fastfcn.types import IGNORE_INDEX, IMAGENET_MEAN, IMAGENET_STD

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

Pair = tuple[Tensor, Tensor]


class Original(Dataset[Pair]):
    """The steps of the official code, in its order and with its library, written from their description.

    Decode with Pillow; mirror; resize the whole picture (bilinear, the mask nearest) to a short side drawn from 0.5 to
    2 x `base_size`; pad with black; crop; blur half of the crops; to a float tensor in [0, 1]; normalise.

    Args:
        dataset: Whose files are read.
        base_size: Short side in pixels at scale 1.
        crop_size: Side of the crop in pixels.
    """

    def __init__(self, dataset: FileDataset, *, base_size: int, crop_size: int) -> None:
        self._samples = dataset.samples
        self._base_size = base_size
        self._crop_size = crop_size
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Pair:
        sample = self._samples[index]
        assert sample.mask is not None
        image: Image.Image = Image.open(sample.image).convert("RGB")
        mask: Image.Image = Image.open(sample.mask)
        if random.random() < 0.5:
            image, mask = (side.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for side in (image, mask))
        short = random.randint(self._base_size // 2, self._base_size * 2)
        ratio = short / min(image.size)
        size = int(image.width * ratio + 1e-6), int(image.height * ratio + 1e-6)
        image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
        border = 0, 0, max(self._crop_size - size[0], 0), max(self._crop_size - size[1], 0)
        if any(border):
            image, mask = ImageOps.expand(image, border, 0), ImageOps.expand(mask, border, 0)
        left, top = (random.randint(0, side - self._crop_size) for side in image.size)
        box = left, top, left + self._crop_size, top + self._crop_size
        image, mask = image.crop(box), mask.crop(box)
        if random.random() < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(random.random()))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        pixels = pixels.sub_(self._mean).div_(self._std)
        return pixels, torch.from_numpy(np.array(mask).astype(np.int32) - 1).long()


class Albumentations(Dataset[Pair]):
    """The same geometry by albumentations, as projects of today write it.

    Args:
        dataset: Raw samples.
        base_size: Short side in pixels at scale 1.
        crop_size: Side of the crop in pixels.
    """

    def __init__(self, dataset: FileDataset, *, base_size: int, crop_size: int) -> None:
        self._dataset = dataset
        self._chain = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.SmallestMaxSize(max_size=list(range(base_size // 2, base_size * 2 + 1)), area_for_downscale="image"),
                A.PadIfNeeded(
                    min_height=crop_size, min_width=crop_size, position="top_left",
                    border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE_INDEX,
                ),
                A.RandomCrop(height=crop_size, width=crop_size),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.0, 1.0), p=0.5),
                A.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD),
            ],
            seed=0,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Pair:
        raw = self._dataset[index]
        out = self._chain(image=raw.image, mask=raw.mask)
        image = torch.from_numpy(np.ascontiguousarray(out["image"].transpose(2, 0, 1)))
        return image, torch.from_numpy(out["mask"].astype(np.int64))

"""The plain formulation of multi-scale evaluation: one window at a time, and its mirror image after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.types import BLACK

#: (1, 3, h, w) -> logits (1, C, h, w).
Predict = Callable[[Tensor], Tensor]


def one_window_at_a_time(
    predict: Predict, image: Tensor, *, scales: Sequence[float], flip: bool, base_size: int, crop_size: int
) -> Tensor:
    """Scores of an image by the original's protocol: sums of exp(logits + mirrored logits), of the size of the image.

    Args:
        predict: Gives logits of the size of what it gets.
        image: (1, 3, H, W), normalised.
        scales: At each the long side becomes ceil(base_size * scale).
        flip: Ask mirror images too.
        base_size: Long side at scale 1, in pixels.
        crop_size: Side of the windows, in pixels; they begin every 2/3 of it.
    """
    height, width = image.shape[-2:]
    scores: Tensor | None = None
    for scale in scales:
        long = math.ceil(base_size * scale)
        if height > width:
            size = long, int(1.0 * width * long / height + 0.5)
        else:
            size = int(1.0 * height * long / width + 0.5), long
        at_scale = _windows(predict, _resize(image, size), flip=flip, crop_size=crop_size)
        full = _resize(at_scale, (height, width))
        scores = full if scores is None else scores + full
    assert scores is not None, "there is at least one scale"
    return scores


def _windows(predict: Predict, image: Tensor, *, flip: bool, crop_size: int) -> Tensor:
    height, width = image.shape[-2:]
    stride = int(crop_size * (2.0 / 3.0))
    rows, columns = (math.ceil(max(side - crop_size, 0) / stride) + 1 for side in (height, width))
    padded = _pad(image, (rows - 1) * stride + crop_size, (columns - 1) * stride + crop_size)
    total: Tensor | None = None
    count = torch.zeros(1, 1, *padded.shape[-2:], device=image.device)
    for row in range(rows):
        for column in range(columns):
            inside = (
                ...,
                slice(row * stride, row * stride + crop_size),
                slice(column * stride, column * stride + crop_size),
            )
            window = padded[inside]
            logits = predict(window)
            if flip:
                logits = logits + predict(window.flip(3)).flip(3)
            if total is None:
                total = torch.zeros(1, logits.shape[1], *padded.shape[-2:], device=image.device)
            total[inside] += logits.exp()
            count[inside] += 1
    assert total is not None, "there is at least one window"
    return (total / count)[..., :height, :width]


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    """Black at the right and at the bottom, channel by channel, for it is not 0 once an image is normalised."""
    right, bottom = width - image.shape[3], height - image.shape[2]
    channels = [F.pad(image[:, i : i + 1], (0, right, 0, bottom), value=value) for i, value in enumerate(BLACK)]
    return torch.cat(channels, dim=1)

"""Models without weights, and images and videos on disk, for the tests of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fastfcn.inference import Inference
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.types import DataFacts, UInt8Array

FACTS = DataFacts("toy", ("red", "green", "blue"), ((250, 0, 10), (0, 200, 30), (5, 20, 240)))


def strongest(image: Tensor) -> Tensor:
    """Logits by the channels: of a pixel, its strongest colour."""
    return image


def toy(inference: Inference | None = None, **options: Any) -> Segmenter:
    return Segmenter(strongest, FACTS, inference=inference, **options)


def near(radius: int) -> Any:
    """Logits that depend on the pixels up to so far away, and on a grid of four pixels as strided layers do.

    They are whole numbers, of which any order of additions makes the same sum.
    """
    side = 2 * radius - 7
    weight = torch.randint(-2, 3, (3, 3, side, side), generator=torch.Generator().manual_seed(1)).float()

    def model(image: Tensor) -> Tensor:
        seen = nn.functional.conv2d((image * 16).round(), weight, padding=radius - 4)[..., ::4, ::4]
        large = nn.functional.interpolate(seen, scale_factor=4, mode="nearest") / side
        return large[..., : image.shape[2], : image.shape[3]]

    return model


def noise(height: int, width: int, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, height: int = 20, width: int = 30, seed: int = 0) -> UInt8Array:
    """Write a picture; gives its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width, seed)).save(path)
    return noise(height, width, seed)


def video(path: Path, *, frames: int = 6, size: tuple[int, int] = (32, 48), rate: float = 12.5) -> None:
    """Write a video of plain frames, red, green, blue, red, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    letters = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*letters), rate, size[::-1])
    for number in range(frames):
        frame = np.zeros((*size, 3), np.uint8)
        frame[..., 2 - number % 3] = 255
        writer.write(frame)
    writer.release()

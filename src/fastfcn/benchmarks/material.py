"""Pictures to measure on where no real ones are at hand: files of the size, and of the weight, of VOC's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fastfcn.data.folder import FolderDataset
from fastfcn.data.scenes import Scenes
from fastfcn.types import UInt8Array

#: Most of VOC's pictures are 500 x 375.
HEIGHT, WIDTH = 375, 500

#: JPEG quality, and the strength of the texture in grey levels: together they give about 70 kB.
QUALITY, TEXTURE = 90, 12.0


def write(folder: Path, *, count: int, seed: int = 0) -> FolderDataset:
    """Write scenes with the texture of photographs as JPEG files, and their masks as palette PNG files.

    Pascal Context is prepared in the same way.

    Args:
        folder: An empty folder.
        count: Number of pictures.
        seed: Chooses the scenes.

    Returns:
        The data set, all in its training split.
    """
    scenes = Scenes("train", size=512, counts={"train": count}, seed=seed)
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir(parents=True)
    for index in range(count):
        image, mask, _ = scenes[index]
        top = 512 - HEIGHT
        picture = _textured(image[top:, :WIDTH], seed=index)
        Image.fromarray(picture).save(folder / f"images/train/{index:04d}.jpg", quality=QUALITY)
        labels = Image.fromarray(mask[top:, :WIDTH].astype(np.uint8))
        colors = [channel for color in scenes.facts.palette for channel in color]
        labels.putpalette(colors + [0] * (3 * 256 - len(colors)))  # of 16 colours Pillow would make 4-bit pixels
        labels.save(folder / f"masks/train/{index:04d}.png")
    (folder / "classes.txt").write_text("\n".join(scenes.facts.class_names) + "\n", encoding="utf-8")
    return FolderDataset("train", root=folder)


def _textured(image: UInt8Array, *, seed: int) -> UInt8Array:
    """Noise of equal strength in every octave, as natural pictures have it."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    texture = np.zeros((height, width), dtype=np.float32)
    for octave in range(6):
        coarse = rng.standard_normal((height >> octave, width >> octave), dtype=np.float32)
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    texture *= TEXTURE / texture.std()
    textured: UInt8Array = (image + texture[..., None]).clip(0, 255).astype(np.uint8)
    return textured

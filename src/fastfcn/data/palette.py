"""The colours of classes: given, taken from a palette mask or chosen, and read back from RGB masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fastfcn.errors import UnknownLabelError, UserError
from fastfcn.types import Int16Array, UInt8Array

Color = tuple[int, int, int]
Palette = tuple[Color, ...]

#: What a user types to set a palette.
PALETTE_KEY = "data.dataset.palette"


def checked_palette(palette: Sequence[Sequence[int]], num_classes: int) -> Palette:
    """A palette as it was given, one (R, G, B) of 0..255 per class.

    Raises:
        UserError: A value is no colour, or the colours are not one per class, each different.
    """
    colors = tuple(checked_color(values, key=PALETTE_KEY) for values in palette)
    if len(colors) != num_classes or len(set(colors)) < num_classes:
        raise UserError(
            f"{PALETTE_KEY} has {len(set(colors))} different colours for {num_classes} classes: give each its own."
        )
    return colors


def checked_color(values: Sequence[int], *, key: str) -> Color:
    """A colour as three whole numbers.

    Raises:
        UserError: It is something else.
    """
    if len(values) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in values):
        raise UserError(f"{key} has the colour {list(values)}: give three whole numbers from 0 to 255.")
    return values[0], values[1], values[2]


def embedded_palette(image: Image.Image, num_classes: int, *, first: int = 0) -> Palette | None:
    """The classes' colours from a palette image; None if it is none or does not tell the classes apart.

    Args:
        image: A mask.
        num_classes: Number of classes.
        first: The pixel value of class 0.
    """
    values = (image.getpalette("RGB") or []) if image.mode == "P" else []
    colors = list(zip(values[0::3], values[1::3], values[2::3], strict=False))
    chosen = tuple(colors[first:][:num_classes])
    return chosen if len(set(chosen)) == num_classes else None


def distinct_colors(count: int) -> Palette:
    """The same `count` well-separated colours each time, none of them near black.

    Each is the colour, on a grid over RGB, that lies farthest from black and from all before it in CIELAB, in which
    distance is near to what the eye sees.
    """
    levels = np.linspace(0, 255, 16, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)  # (4096, 3)
    lab = cv2.cvtColor(grid[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab, axis=1)  # black is the origin
    colors: list[Color] = []
    for _ in range(count):
        farthest = int(distance.argmax())
        red, green, blue = grid[farthest].tolist()
        colors.append((red, green, blue))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return tuple(colors)


def decode_colors(rgb: UInt8Array, id_of_color: Mapping[Color, int], *, path: Path) -> Int16Array:
    """Class ids of an RGB mask.

    Args:
        rgb: (H, W, 3) uint8.
        id_of_color: The class id, or IGNORE_INDEX, that each colour stands for.
        path: The mask's file, for the message.

    Returns:
        (H, W) int16.

    Raises:
        UnknownLabelError: No colour is known, or the mask holds one that is not.
    """
    if not id_of_color:
        raise UnknownLabelError(
            f"{path} is an RGB mask: save it as a PNG of class ids, or set {PALETTE_KEY} to its colours."
        )
    weights = np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    codes = rgb.astype(np.int32) @ weights  # one number per colour: (H, W)
    known = np.array(list(id_of_color), dtype=np.int32) @ weights
    ids = np.array(list(id_of_color.values()), dtype=np.int16)
    order = known.argsort()
    nearest = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    if (wrong := known[order][nearest] != codes).any():
        color = tuple(int(channel) for channel in rgb[wrong][0])
        raise UnknownLabelError(
            f"{path} holds the colour {color}, which is not in {PALETTE_KEY} nor data.dataset.ignore_color: add it, or "
            "correct the mask."
        )
    mask: Int16Array = ids[order][nearest]
    return mask

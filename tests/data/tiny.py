"""A tiny data set on disk: its files, and how a message about it must read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastfcn.errors import UserError

Damage = Callable[[Path], object]

CLASSES = ("sky", "road", "pole")
SPLITS = ("train", "val", "test")
RGB = [[10, 20, 30], [200, 0, 0], [0, 200, 0]]


def picture(height: int = 6, width: int = 8) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ids(height: int = 6, width: int = 8) -> npt.NDArray[np.uint8]:
    mask = (np.arange(height * width) % 3).reshape(height, width).astype(np.uint8)
    mask[0, 0] = 255
    return mask


def save(array: npt.NDArray[np.generic] | Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)


def tree(root: Path) -> Path:
    """Splits by folder, two images each."""
    for split in SPLITS:
        for stem in ("b", "a"):
            save(picture(), root / f"images/{split}/{stem}.png")
            save(ids(), root / f"masks/{split}/{stem}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def with_lists(root: Path, where: str, lines: str) -> Path:
    """The same tree, flat, with a list file."""
    for kind in ("images", "masks"):
        for split in SPLITS:
            for file in (root / kind / split).iterdir():
                file.rename(root / kind / f"{split}_{file.name}")
            (root / kind / split).rmdir()
    (root / where).parent.mkdir(parents=True, exist_ok=True)
    (root / where).write_text(lines)
    return root


def is_one_sentence_with(error: UserError, words: list[str]) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    for word in words:
        assert word in text

"""A tiny data set in COCO's layout, and how to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from tests.data.tiny import picture, save

SIZE = (6, 8)  # height, width

#: Ids with gaps, not in their order.
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "tree", "supercategory": "plant"}]


def block(rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A rectangle of ones, in the memory order of pycocotools."""
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[rows, columns] = 1
    return mask


def compressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"size": list(SIZE), "counts": coco.encode(np.asfortranarray(mask))["counts"].decode()}


def uncompressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """By the definition: runs of columns, of zeros and ones in turn, beginning with zeros."""
    flat = mask.ravel(order="F")
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(ends).tolist()
    return {"size": list(SIZE), "counts": [0, *runs] if flat[0] else runs}


def content(stems: tuple[str, ...] = ("b", "a")) -> dict[str, Any]:
    """Of each image: a dog as a polygon, over it a cat as a compressed code, over both a crowd of trees."""
    images = [{"id": 11 + i, "file_name": f"{s}.png", "height": 6, "width": 8} for i, s in enumerate(stems)]
    annotations = []
    for number, image in enumerate(images):
        parts = (
            (7, 0, [[0, 0, 4, 0, 4, 4, 0, 4]]),  # rows 0 to 3, columns 0 to 3
            (3, 0, compressed(block(slice(2, 6), slice(2, 6)))),
            (90, 1, uncompressed(block(slice(0, 3), slice(3, 8)))),
        )
        for place, (category, crowd, segmentation) in enumerate(parts):
            annotations.append(
                {"id": 100 + 10 * number + place, "image_id": image["id"], "category_id": category, "iscrowd": crowd,
                 "segmentation": segmentation, "bbox": [0, 0, 1, 1], "area": 1.0}
            )  # fmt: skip
    return {"info": {}, "images": images, "categories": CATEGORIES, "annotations": annotations}


def tree(root: Path) -> Path:
    """``annotations/train.json`` and ``val.json`` beside one folder of images."""
    for split, stems in (("train", ("b", "a")), ("val", ("c",))):
        write(root, content(stems), split)
        for stem in stems:
            save(picture(*SIZE), root / f"images/{stem}.png")
    return root


def write(root: Path, what: object, split: str = "train") -> None:
    path = root / f"annotations/{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what))


def spoil(root: Path, change: Callable[[dict[str, Any]], object], split: str = "train") -> None:
    """Change a file's content."""
    what = json.loads((root / f"annotations/{split}.json").read_text())
    change(what)
    write(root, what, split)

"""Images to begin with: scenes of the embedded data set, of which the truth is known too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastfcn import png_files
from fastfcn.data.scenes import Scenes
from fastfcn.types import DataFacts, Int16Array, UInt8Array

#: Scenes of the test split, which no training sees, with boats, cars, wires, branches and birds among them.
CHOSEN = (4, 0, 9, 11, 17, 21, 6, 2)

FACTS: DataFacts = Scenes.facts


class Example(NamedTuple):
    """A scene with its truth.

    Attributes:
        path: of its PNG.
        name: of the scene.
        image: (H, W, 3) uint8, RGB.
        truth: (H, W) class ids of `FACTS`.
    """

    path: Path
    name: str
    image: UInt8Array
    truth: Int16Array


def draw(folder: Path, *, chosen: Sequence[int] = CHOSEN) -> list[Example]:
    """Draw scenes and write each as a PNG.

    Args:
        folder: where to; it is made.
        chosen: numbers of scenes of the test split.
    """
    scenes = Scenes("test", counts={"test": max(chosen) + 1})
    drawn = []
    for index in chosen:
        image, truth, name = scenes[index]
        name = name.replace("/", "_")
        path = folder / f"{name}.png"
        png_files.save(image, path)
        drawn.append(Example(path, name, image, truth))
    return drawn


def truth_of(image: UInt8Array, examples: Sequence[Example]) -> Int16Array | None:
    """The truth of an image that is one of the examples, by its pixels: (H, W); None of any other."""
    for example in examples:
        if image.shape == example.image.shape and (image == example.image).all():
            return example.truth
    return None

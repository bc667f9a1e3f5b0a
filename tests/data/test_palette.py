from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.folder import FolderDataset
from fastfcn.data.palette import checked_color, checked_palette, decode_colors, distinct_colors, embedded_palette
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX
from tests.data.tiny import RGB, ids, is_one_sentence_with, save


def test_colors_are_the_same_each_time_and_far_apart() -> None:
    colors = np.array(distinct_colors(150), float)
    assert distinct_colors(150)[:11] == distinct_colors(11)
    all_with_black = np.vstack([colors, np.zeros(3)])
    distances = np.linalg.norm(all_with_black[:, None] - all_with_black[None], axis=-1) + 1e9 * np.eye(151)
    assert distances.min() > 16
    assert distances[:11, :11].min() > 80


def test_an_embedded_palette_must_tell_the_classes_apart() -> None:
    mask = Image.new("P", (2, 2))
    mask.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 8, 8, 8])
    assert embedded_palette(mask, 3) == ((0, 0, 0), (9, 9, 9), (8, 8, 8))
    assert embedded_palette(mask, 2, first=1) == ((9, 9, 9), (8, 8, 8))
    assert embedded_palette(mask, 3, first=1) is None
    assert embedded_palette(mask, 5) is None
    assert embedded_palette(Image.new("L", (2, 2)), 2) is None


def test_palette_masks_give_indices_and_palette(root: Path) -> None:
    mask = Image.fromarray(ids()).convert("P")
    mask.putpalette([channel for color in RGB for channel in color] + [9, 9, 9] * 253)
    for stem in "ab":
        save(mask, root / f"masks/train/{stem}.png")
    dataset = FolderDataset("train", root=root)
    assert dataset.facts.palette == tuple(tuple(color) for color in RGB)
    np.testing.assert_array_equal(dataset[0].mask[1], ids()[1])
    assert dataset[0].mask[0, 0] == IGNORE_INDEX


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_masks_of_few_bits(root: Path, bits: int) -> None:
    mask = Image.fromarray((ids() == 1).astype(np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255][: 3 * min(4, 2**bits)])
    mask.save(root / "masks/train/a.png", bits=bits)
    np.testing.assert_array_equal(FolderDataset("train", root=root)[0].mask, ids() == 1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_rgb_masks_are_decoded_through_the_palette(root: Path, mode: str) -> None:
    colors = np.array([*RGB, *[[0, 0, 0]] * 253], np.uint8)[ids()]
    save(Image.fromarray(colors).convert(mode), root / "masks/train/a.png")
    mask = FolderDataset("train", root=root, palette=RGB, ignore_color=[0, 0, 0])[0].mask
    np.testing.assert_array_equal(mask[1:], ids()[1:])
    assert mask[0, 0] == IGNORE_INDEX
    with pytest.raises(UserError, match=r"train/a\.png holds the colour \(0, 0, 0\)"):
        FolderDataset("train", root=root, palette=RGB)[0]
    with pytest.raises(UserError, match=r"train/a\.png is an RGB mask.*palette"):
        FolderDataset("train", root=root)[0]


def test_colors_are_decoded_in_any_order() -> None:
    colors = distinct_colors(40)
    expected = np.random.default_rng(0).integers(0, 40, (9, 7)).astype(np.int16)
    mask = decode_colors(
        np.array(colors, np.uint8)[expected], {color: i for i, color in enumerate(colors)}, path=Path("mask.png")
    )
    assert mask.dtype == np.int16
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        (RGB[:2], ["data.dataset.palette", "2 different colours", "3 classes"]),
        ([RGB[0], RGB[0], RGB[1]], ["data.dataset.palette", "2 different colours"]),
        ([[0, 0, 256], *RGB[1:]], ["data.dataset.palette", "256"]),
        ([[0, 0], *RGB[1:]], ["data.dataset.palette", "[0, 0]"]),
    ],
)
def test_a_palette_gives_each_class_a_color_of_its_own(palette: list[list[int]], words: list[str]) -> None:
    assert checked_palette(RGB, 3) == tuple(tuple(color) for color in RGB)
    with pytest.raises(UserError) as caught:
        checked_palette(palette, 3)
    is_one_sentence_with(caught.value, words)


def test_a_color_is_named_by_its_key() -> None:
    with pytest.raises(UserError, match=r"data\.dataset\.ignore_color has the colour \[1, 2\]"):
        checked_color([1, 2], key="data.dataset.ignore_color")

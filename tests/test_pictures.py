from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn.pictures import (
    Example,
    Mask,
    colourise,
    denormalise,
    figure_rows,
    save_png,
)
from fastfcn.types import IMAGENET_MEAN, IMAGENET_STD, DataFacts, UInt8Array

PALETTE = ((10, 200, 30), (250, 20, 60), (5, 5, 240))
FACTS = DataFacts("toy", ("grass", "roof", "water"), PALETTE)


def example(
    height: int = 32, width: int = 32, models: int = 1, truth_class: int = 0, predicted_class: int = 1
) -> Example:
    truth: Mask = np.full((height, width), truth_class)
    prediction: Mask = np.full((height, width), predicted_class)
    return Example(np.full((height, width, 3), 99, dtype=np.uint8), truth, (prediction,) * models)


def occurs(picture: UInt8Array, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.asarray(colour)).all(axis=-1).any())


def test_denormalise_is_the_inverse_of_normalisation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    normalised = (pixels.astype(np.float32) / 255 - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(
        IMAGENET_STD, np.float32
    )
    image = torch.from_numpy(normalised.transpose(2, 0, 1))
    np.testing.assert_array_equal(denormalise(image), pixels)


def test_colourise_paints_classes_and_hatches_ignored_pixels() -> None:
    mask = np.array([[0, 1, 2, -1] * 4] * 16)
    rgb = colourise(mask, PALETTE)
    for label, colour in enumerate(PALETTE):
        assert (rgb[mask == label] == colour).all()
    ignored = rgb[mask == -1]
    assert (ignored[:, 0] == ignored[:, 1]).all()
    assert set(np.unique(ignored)) == {176, 255}


def test_colourise_refuses_a_class_without_colour() -> None:
    with pytest.raises(IndexError):
        colourise(np.array([[3]]), PALETTE)


def test_small_masks_are_enlarged_without_new_colours() -> None:
    truth = np.random.default_rng(0).integers(0, 3, (128, 128))
    row = Example(np.zeros((128, 128, 3), dtype=np.uint8), truth, (truth,))
    picture = figure_rows([row], facts=FACTS, cell=256)
    left, top = 14 + 256 + 6, 36
    cell = picture[top : top + 256, left : left + 256]
    np.testing.assert_array_equal(cell, colourise(truth.repeat(2, axis=0).repeat(2, axis=1), PALETTE))


def test_legend_holds_the_classes_that_occur_alone() -> None:
    picture = figure_rows([example(truth_class=0, predicted_class=1)], facts=FACTS)
    legend = picture[-40:]
    assert occurs(legend, PALETTE[0])
    assert occurs(legend, PALETTE[1])
    assert not occurs(picture, PALETTE[2])


def test_errors_show_wrong_pixels_alone() -> None:
    right = figure_rows([example(truth_class=0, predicted_class=0)], facts=FACTS, errors=True)
    wrong = figure_rows([example(truth_class=0, predicted_class=1)], facts=FACTS, errors=True)
    error_row = slice(36 + 256 + 6, 36 + 2 * 256)
    assert not occurs(right[error_row], PALETTE[0])
    assert occurs(wrong[error_row], PALETTE[1])
    ignored = figure_rows([example(truth_class=-1, predicted_class=1)], facts=FACTS, errors=True)
    assert not occurs(ignored[error_row], PALETTE[1])


def test_page_of_several_models_and_sizes() -> None:
    rows = [example(40, 64, models=3), example(700, 300, models=3)]
    headings = ("none", "bilinear", "a name that is much too long for the column that it heads")
    picture = figure_rows(rows, facts=FACTS, headings=headings, headlines=("1", "2", "3"), cell=128)
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 2 * 14 + 5 * 128 + 4 * 6
    assert picture.shape[0] > 80 + 128  # a row of 40 x 64 enlarged twice, one of 700 x 300 reduced to 128


def test_save_png_makes_the_folder_and_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "picture.png"
    rgb = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    save_png(rgb, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), rgb)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]

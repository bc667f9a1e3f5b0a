from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.folder import FolderDataset
from fastfcn.data.palette import distinct_colors
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX
from tests.data.tiny import CLASSES, RGB, Damage, ids, is_one_sentence_with, picture, save


def test_splits_by_folder(root: Path) -> None:
    dataset = FolderDataset("val", root=root, thin_classes=["pole"])
    assert len(dataset) == 2
    image, mask, name = dataset[0]
    assert name == "a"
    assert image.dtype == np.uint8
    assert mask.dtype == np.int16
    np.testing.assert_array_equal(image, picture())
    expected = ids().astype(int)
    expected[expected == 255] = IGNORE_INDEX
    np.testing.assert_array_equal(mask, expected)
    assert dataset.facts.name == "tiny"
    assert dataset.facts.class_names == CLASSES
    assert dataset.facts.thin_classes == ("pole",)
    assert dataset.facts.palette == distinct_colors(3)


def test_other_names_of_folders_and_splits(root: Path) -> None:
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "Labels")
    for kind in ("JPEGImages", "Labels"):
        (root / kind / "val").rename(root / kind / "validation")
    dataset = FolderDataset(
        "val", root=root, image_dir="JPEGImages", mask_dir="Labels", splits={"val": "validation"}, name="other"
    )
    assert len(dataset) == 2
    assert dataset.facts.name == "other"
    assert dataset[0].mask.max() == 2


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "tif", "TIFF", "webp"])
def test_image_formats(root: Path, suffix: str) -> None:
    flat = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    save(flat, root / f"images/train/c.{suffix}")
    save(ids(), root / "masks/train/c.png")
    image = FolderDataset("train", root=root)[2].image
    assert image.shape == (6, 8, 3)
    assert np.abs(image.astype(int) - flat).max() < 6  # RGB order, but for the codecs' loss


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_image_modes(root: Path, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    source = Image.fromarray(np.full((6, 8, 3), 255, np.uint8)).convert(mode)
    (root / "images/train/a.png").unlink()
    save(source, root / f"images/train/a.{suffix}")
    image = FolderDataset("train", root=root)[0].image
    np.testing.assert_array_equal(image, np.full((6, 8, 3), 255))


def test_16_bit_grey_images_are_scaled_not_cut_off(root: Path) -> None:
    grey = np.array([[0, 255, 256, 65535]], np.uint16).repeat(2, axis=0)
    save(grey, root / "images/train/a.png")
    save(np.zeros((2, 4), np.uint8), root / "masks/train/a.png")
    np.testing.assert_array_equal(FolderDataset("train", root=root)[0].image[0, :, 1], [0, 0, 1, 255])


def test_exif_orientation_is_applied(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    flat = np.zeros((8, 16, 3), np.uint8)
    flat[:, :8] = 255
    (root / "images/train/a.png").unlink()
    Image.fromarray(flat).save(root / "images/train/a.jpg", exif=exif, quality=95)
    save(np.zeros((16, 8), np.uint8), root / "masks/train/a.png")
    image = FolderDataset("train", root=root)[0].image
    assert image.shape == (16, 8, 3)
    assert image[:7].min() > 200
    assert image[9:].max() < 50
    save(np.zeros((8, 16), np.uint8), root / "masks/train/a.png")
    with pytest.raises(UserError, match="EXIF"):
        FolderDataset("train", root=root)[0]


def test_16_bit_masks_and_many_classes(root: Path) -> None:
    mask = np.array([[0, 299, 255, 65535]], np.uint16)
    save(picture(1, 4), root / "images/train/a.png")
    save(mask, root / "masks/train/a.png")
    dataset = FolderDataset("train", root=root, class_names=[f"c{i}" for i in range(300)], ignore_index=65535)
    np.testing.assert_array_equal(dataset[0].mask, [[0, 299, 255, IGNORE_INDEX]])
    assert len(set(dataset.facts.palette)) == 300


def test_bilevel_masks_are_classes_0_and_1(root: Path) -> None:
    save(Image.fromarray(ids() == 1), root / "masks/train/a.png")
    np.testing.assert_array_equal(FolderDataset("train", root=root)[0].mask, ids() == 1)


def test_reduce_zero_label(root: Path) -> None:
    save(np.array([[0, 1, 3, 255]], np.uint8), root / "masks/train/a.png")
    save(picture(1, 4), root / "images/train/a.png")
    dataset = FolderDataset("train", root=root, reduce_zero_label=True)
    np.testing.assert_array_equal(dataset[0].mask, [[IGNORE_INDEX, 0, 2, IGNORE_INDEX]])
    save(np.array([[4, 1, 3, 255]], np.uint8), root / "masks/train/a.png")
    with pytest.raises(UserError, match="value 4"):
        dataset[0]


def test_class_names_from_a_list_or_a_file(root: Path, tmp_path: Path) -> None:
    (root / "classes.txt").rename(root / "names.txt")
    assert FolderDataset("train", root=root, class_names="names.txt").facts.class_names == CLASSES
    assert FolderDataset("train", root=root, class_names=root / "names.txt").facts.class_names == CLASSES
    assert FolderDataset("train", root=root, class_names=["x", "y", "z"]).facts.num_classes == 3
    with pytest.raises(UserError, match=r"classes\.txt"):
        FolderDataset("train", root=root)
    with pytest.raises(UserError, match="twice"):
        FolderDataset("train", root=root, class_names=["x", "x", "z"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: root.rename(root.with_name("gone")), ["data.dataset.root=", "tiny", "does not exist"]),
        (lambda root: (root / "classes.txt").write_text(" \n"), ["data.dataset.class_names is empty"]),
        (lambda root: (root / "classes.txt").write_bytes(b"\xff\xfe\x00sky"), ["classes.txt", "UTF-8"]),
    ],
)
def test_a_broken_tree_is_told_at_construction(root: Path, damage: Damage, words: list[str]) -> None:
    damage(root)
    with pytest.raises(UserError) as caught:
        FolderDataset("train", root=root)
    is_one_sentence_with(caught.value, words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: save(ids(6, 9), root / "masks/train/a.png"), ["masks/train/a.png", "9 x 6", "8 x 6"]),
        (lambda root: save(ids() | 4, root / "masks/train/a.png"), ["a.png holds the value", "3 classes", "=255"]),
        (lambda root: (root / "images/train/a.png").write_bytes(b"no image"), ["images/train/a.png", "replace"]),
        (lambda root: (root / "images/train/a.png").write_bytes(b""), ["images/train/a.png", "replace"]),
        (lambda root: save(Image.fromarray(ids()).convert("LA"), root / "masks/train/a.png"), ["a.png", "LA"]),
    ],
)
def test_a_broken_file_is_told_on_access(root: Path, damage: Damage, words: list[str]) -> None:
    dataset = FolderDataset("train", root=root)
    damage(root)
    assert dataset[1].name == "b"
    with pytest.raises(UserError) as caught:
        dataset[0]
    is_one_sentence_with(caught.value, words)


@pytest.mark.parametrize("kind", ["images/train/a.jpg", "images/train/a.png", "masks/train/a.png"])
def test_a_truncated_file_is_told_wherever_it_ends(root: Path, kind: str) -> None:
    if kind.endswith("jpg"):
        (root / "images/train/a.png").unlink()
    save(picture(60, 80) if kind.startswith("images") else ids(60, 80), root / kind)
    if kind.startswith("images"):
        save(ids(60, 80), root / "masks/train/a.png")
    else:
        save(picture(60, 80), root / "images/train/a.png")
    dataset = FolderDataset("train", root=root)
    whole = (root / kind).read_bytes()
    assert dataset[0].image.shape == (60, 80, 3)
    for end in range(0, len(whole) * 3 // 4, max(1, len(whole) // 60)):
        (root / kind).write_bytes(whole[:end])
        with pytest.raises(UserError, match="cannot be read"):
            dataset[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "tran"}, ["'tran'", "train, val, test"]),
        ({"splits": {"tran": "x"}}, ["data.dataset.splits", "'tran'"]),
        ({"thin_classes": ["wire"]}, ["data.dataset.thin_classes", "'wire'"]),
        ({"palette": RGB[:2]}, ["data.dataset.palette", "3 classes"]),
        ({"ignore_color": [0, 0, 256]}, ["data.dataset.ignore_color", "256"]),
        ({"ignore_index": -1}, ["data.dataset.ignore_index=-1"]),
        ({"ignore_index": 2}, ["data.dataset.ignore_index=2", "also the id of a class"]),
    ],
)
def test_a_senseless_argument_is_named(root: Path, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        FolderDataset(**{"split": "train", "root": root, **arguments})
    is_one_sentence_with(caught.value, words)

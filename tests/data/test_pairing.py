from __future__ import annotations

from pathlib import Path

import pytest

from fastfcn.data.pairing import Pair, on_disk, pair
from fastfcn.errors import UserError
from tests.data.tiny import Damage, ids, is_one_sentence_with, picture, save, with_lists


def test_splits_by_folder(root: Path) -> None:
    images, masks = root / "images/val", root / "masks/val"
    pairs = [Pair("a", images / "a.png", masks / "a.png"), Pair("b", images / "b.png", masks / "b.png")]
    assert pair(root, image_dir="images", mask_dir="masks", split="val") == pairs


def test_sub_folders_and_hidden_files(root: Path) -> None:
    save(picture(), root / "images/train/city/c.JPG")
    save(ids(), root / "masks/train/city/c.PNG")
    (root / "images/train/._a.png").write_bytes(b"a file system's own note")
    assert [each.name for each in pair(root, image_dir="images", mask_dir="masks", split="train")] == [
        "a",
        "b",
        "city/c",
    ]


@pytest.mark.parametrize("where", ["train.txt", "splits/train.txt", "ImageSets/train.txt"])
@pytest.mark.parametrize("line", ["{}", "{}.png", "images/{}.png"])
def test_splits_by_list(root: Path, where: str, line: str) -> None:
    with_lists(root, where, "\ufeff" + line.format("val_b") + "\n\n" + line.format("train_a") + "\r\n")
    pairs = pair(root, image_dir="images", mask_dir="masks", split="train")
    assert [each.name for each in pairs] == ["val_b", "train_a"]  # the list's order


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda root: (root / "images/train").rename(root / "images/training"),
            ["'train'", "dataset.splits"],
        ),
        (lambda root: [f.unlink() for f in (root / "images/train").iterdir()], ["images/train", "holds no image"]),
        (lambda root: (root / "masks/train/b.png").unlink(), ["images/train/b.png has no mask", "1 of 2"]),
        (lambda root: (root / "masks").rename(root / "annotations"), ["images/train/a.png has no mask", "2 of 2"]),
        (lambda root: save(picture(), root / "images/train/a.jpg"), ["a.jpg", "a.png", "suffix"]),
        (lambda root: with_lists(root, "train.txt", "train_a\nnone\n"), ["train.txt", "'none'", "images"]),
        (lambda root: with_lists(root, "train.txt", "train_a\ntrain_a.png\n"), ["train.txt", "twice"]),
        (lambda root: with_lists(root, "train.txt", "\n"), ["train.txt holds no image"]),
    ],
)
def test_a_broken_tree_is_told(root: Path, damage: Damage, words: list[str]) -> None:
    damage(root)
    with pytest.raises(UserError) as caught:
        pair(root, image_dir="images", mask_dir="masks", split="train")
    is_one_sentence_with(caught.value, words)


def test_a_split_may_have_another_name_on_disk() -> None:
    assert on_disk("val", None) == "val"
    assert on_disk("val", {"val": "validation"}) == "validation"
    assert on_disk("train", {"val": "validation"}) == "train"
    with pytest.raises(UserError, match=r"^'tran' is no split.*train, val, test"):
        on_disk("tran", None)
    with pytest.raises(UserError, match=r"data\.dataset\.splits: 'tran' is no split"):
        on_disk("train", {"tran": "x"})

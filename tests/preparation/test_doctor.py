"""The doctor: each fault is made on disk, and is to be found by kind and file."""

from __future__ import annotations

import functools
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.ade20k import ADE20K
from fastfcn.data.folder import FolderDataset
from fastfcn.data.pascal_context import PascalContext
from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError
from fastfcn.preparation import doctor
from fastfcn.preparation.inspection import KINDS
from tests.conftest import FolderMaker
from tests.preparation import trees

SPLITS = ("train", "val", "test")
NAMES = ("sky", "road", "pole")


@pytest.fixture
def root(make_folder: FolderMaker) -> Path:
    """A sound data set: 4 images of noise in each split, all of them different."""
    return make_folder("tiny", NAMES, size=40)


def check(root: Path, out: Path, **options: Any) -> tuple[bool, dict[str, Any]]:
    """The verdict and what was written."""
    open_split = functools.partial(FolderDataset, root=root, strict=False)
    ready = doctor.check(open_split, SPLITS, name="tiny", out=out, **options)
    report: dict[str, Any] = json.loads((out / "check.json").read_text())
    assert report["ready"] is ready
    return ready, report


def test_a_sound_data_set(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ready, report = check(root, tmp_path / "out")
    assert ready
    assert report["findings"] == []
    assert capsys.readouterr().out.endswith("Training can start.\n")
    for split in SPLITS:
        found = report["splits"][split]
        masks = np.stack([np.asarray(Image.open(path)) for path in (root / "masks" / split).iterdir()])
        assert found["pixels"] == np.bincount(masks.ravel(), minlength=3).tolist()
        assert (found["images"], found["ignored"], found["height"]) == (4, 0, [40, 40, 40])
    with Image.open(tmp_path / "out/classes.png") as file:
        assert file.width > 300


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def rewrite(path: Path, change: Callable[[Image.Image], Image.Image], **options: Any) -> None:
    with Image.open(path) as file:
        file.load()
        changed = change(file)
    changed.save(path, **options)


def as_jpeg(root: Path, change: Callable[[Image.Image], Image.Image] = lambda image: image, **options: Any) -> None:
    """Image 1 of train as `1.jpg`."""
    with Image.open(root / "images/train/1.png") as file:
        change(file).save(root / "images/train/1.jpg", **options)
    (root / "images/train/1.png").unlink()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def truncated_jpeg(root: Path) -> None:
    as_jpeg(root)
    cut(root / "images/train/1.jpg")


def sixteen_bits(root: Path) -> None:
    values = np.random.default_rng(5).integers(0, 1 << 16, (40, 40), dtype=np.uint16)
    Image.fromarray(values).save(root / "images/train/1.png")


def tiny(root: Path) -> None:
    for kind in ("images", "masks"):
        rewrite(root / kind / "train/1.png", lambda image: image.crop((0, 0, 20, 40)))


def never_a_pole(root: Path) -> None:
    for path in (root / "masks/train").iterdir():
        rewrite(path, lambda image: image.point(lambda value: min(value, 1)))


def nothing_labelled(root: Path) -> None:
    for path in (root / "masks/train").iterdir():
        rewrite(path, lambda image: image.point(lambda _: 255))


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (lambda root: shutil.rmtree(root / "masks/val"), "missing mask", "images/val/0.png has no mask"),
        (lambda root: (root / "masks/train/1.png").unlink(), "missing mask", "images/train/1.png has no mask"),
        (lambda root: (root / "images/train/1.png").unlink(), "mask without image", "masks/train/1.png has no image"),
        (lambda root: shutil.rmtree(root / "images/test"), "unopened split", "has no split 'test'"),
        (lambda root: cut(root / "images/train/1.png"), "unreadable file", "images/train/1.png cannot be read"),
        (truncated_jpeg, "unreadable file", "images/train/1.jpg cannot be read"),
        (lambda root: cut(root / "masks/val/2.png"), "unreadable file", "masks/val/2.png cannot be read"),
        (
            lambda root: rewrite(root / "masks/train/1.png", lambda image: image.crop((0, 0, 40, 39))),
            "mask of another size",
            "masks/train/1.png is 40 x 39 pixels",
        ),
        (
            lambda root: rewrite(root / "masks/test/3.png", lambda image: image.point(lambda value: value + 1)),
            "unknown label",
            "masks/test/3.png holds the value 3",
        ),
        (nothing_labelled, "no labels to train on", "No pixel of the split train"),
        (nothing_labelled, "mask without labels", "masks/train/0.png"),
        (never_a_pole, "class not in training", "'pole'"),
        (
            lambda root: shutil.copy(root / "images/train/1.png", root / "images/val/2.png"),
            "duplicate over splits",
            "images/val/2.png (val) is",
        ),
        (
            lambda root: rewrite(root / "images/test/0.png", lambda _: Image.open(root / "images/test/3.png")),
            "duplicate within a split",
            "images/test/3.png (test) is",
        ),
        (lambda root: as_jpeg(root, lambda image: image.convert("CMYK")), "CMYK image", "images/train/1.jpg"),
        (lambda root: as_jpeg(root, exif=turned()), "turned by EXIF", "images/train/1.jpg is turned as"),
        (sixteen_bits, "16-bit image", "images/train/1.png"),
        (tiny, "tiny image", "images/train/1.png is 20 x 40 pixels"),
    ],
)
def test_each_fault_is_found(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], kind: str,
    words: str,
) -> None:  # fmt: skip
    damage(root)
    ready, report = check(root, tmp_path / "out")
    found = [finding for finding in report["findings"] if finding["kind"] == kind]
    assert any(words in finding["text"] for finding in found)
    assert all(finding["severity"] == KINDS[kind] for finding in found)
    assert ready is all(finding["severity"] == "warning" for finding in report["findings"])
    if KINDS[kind] == "error":
        assert not ready
    out = capsys.readouterr().out
    assert words in out  # in one piece, however narrow the table is
    assert out.splitlines()[-1].startswith("Training can start." if ready else "Training cannot start: ")


def test_a_missing_image_does_not_hide_the_rest_of_its_split(tmp_path: Path) -> None:
    """Where a list names the images: the missing one is told, and all others are read."""
    pascal = trees.make_pascal_tree(tmp_path / "pascal")
    (pascal / "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg").unlink()
    cut(pascal / "masks/2008_000004.png")
    ade = trees.make_ade20k_tree(tmp_path / "ade")
    (ade / "release_test/testing/ADE_test_00000001.jpg").unlink()
    found: dict[str, dict[str, Any]] = {}
    for name, dataset, root in (("pascal", PascalContext, pascal), ("ade", ADE20K, ade)):
        splits = ("train", "val", "test") if name == "ade" else ("train", "val")
        open_split = functools.partial(dataset, root=root, strict=False)
        assert not doctor.check(open_split, splits, name=name, out=tmp_path / name)
        found[name] = json.loads((tmp_path / name / "check.json").read_text())
    kinds = [finding["kind"] for finding in found["pascal"]["findings"] if finding["severity"] == "error"]
    assert kinds == ["missing image", "unreadable file"]
    assert "lists '2008_000003'" in found["pascal"]["findings"][0]["text"]
    assert found["pascal"]["splits"]["train"]["images"] == trees.PASCAL_COUNTS["train"] - 1
    assert [finding["kind"] for finding in found["ade"]["findings"]] == ["missing image"]
    assert "ADE_test_00000001.jpg" in found["ade"]["findings"][0]["text"]
    assert found["ade"]["splits"]["test"]["images"] == trees.ADE_COUNTS["test"] - 1


def test_a_folder_that_cannot_be_written_to_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out cannot be written \(Not a directory\).*prepare\.out"):
        check(root, tmp_path / "file/out")


def test_most_classes_missing_draws_without_a_warning(tmp_path: Path) -> None:
    """Of many classes, the second column may be without a single bar."""
    trees.make_ade20k_tree(tmp_path / "tree")
    for path in (tmp_path / "tree/ADEChallengeData2016/annotations").rglob("*.png"):
        rewrite(path, lambda image: image.point(lambda value: value and 1))
    open_split = functools.partial(ADE20K, root=tmp_path / "tree", strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert doctor.check(open_split, SPLITS, name="ade20k", out=tmp_path / "out")


def test_processes_find_the_same(root: Path, tmp_path: Path) -> None:
    cut(root / "images/train/1.png")
    shutil.copy(root / "images/train/0.png", root / "images/val/2.png")
    assert check(root, tmp_path / "one", workers=1) == check(root, tmp_path / "two", workers=2)


def test_pixels_as_they_are_stored_and_images_without_masks(tmp_path: Path) -> None:
    trees.make_ade20k_tree(tmp_path / "tree")
    image = next((tmp_path / "tree/ADEChallengeData2016/images/training").iterdir())
    with Image.open(image) as file:
        file.save(image, exif=turned())
    open_split = functools.partial(ADE20K, root=tmp_path / "tree", strict=False)
    assert doctor.check(open_split, SPLITS, name="ade20k", out=tmp_path / "out")
    report = json.loads((tmp_path / "out/check.json").read_text())
    assert [finding["kind"] for finding in report["findings"]] == ["turned by EXIF"]
    assert f"{image} is used as it is stored" in report["findings"][0]["text"]
    assert report["splits"]["test"]["pixels"] == [0] * 150


def test_data_without_files(tmp_path: Path) -> None:
    open_split = functools.partial(Scenes, size=64, counts=dict.fromkeys(SPLITS, 3))
    doctor.check(open_split, SPLITS, name="scenes", out=tmp_path)
    report = json.loads((tmp_path / "check.json").read_text())
    assert {finding["kind"] for finding in report["findings"]} <= {"class not in training"}
    assert report["splits"]["val"]["images"] == 3


def test_nothing_there_at_all(tmp_path: Path) -> None:
    ready, report = check(tmp_path / "nowhere", tmp_path / "out")
    assert not ready
    assert len(report["findings"]) == 3
    assert not (tmp_path / "out/classes.png").exists()

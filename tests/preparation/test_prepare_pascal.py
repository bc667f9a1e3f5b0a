from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.pascal_context import PascalContext
from fastfcn.errors import UserError
from fastfcn.preparation import pascal_conversion
from fastfcn.preparation.pascal_context import prepare
from tests.data.tiny import Damage, is_one_sentence_with
from tests.preparation import trees

# pycocotools 2.0.11 does not know a keyword of numpy 2's protocol yet; numpy does without it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FILES = {"images": "VOCtrainval_03-May-2010.tar", "json": "trainval_merged.json", "mat": "trainval.tar.gz"}
Arguments = dict[str, Any]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The files, in a folder that stands for the public addresses."""
    trees.make_pascal_archives(tmp_path / "origin")
    return tmp_path / "origin"


@pytest.fixture
def given(tmp_path: Path, origin: Path) -> Arguments:
    """The preparation's arguments."""
    shas: dict[str, str | None] = {**trees.sha1_of(origin, *FILES.values()), FILES["mat"]: None}
    return {
        "root": tmp_path / "data/pascal_context",
        "downloads": tmp_path / "data/downloads",
        "sources": {
            key: {"file": file, "url": (origin / file).as_uri(), "sha1": shas[file]} for key, file in FILES.items()
        },
        "counts": trees.PASCAL_COUNTS,
        "retries": 0,
        "timeout": 5.0,
    }


def masks_of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "masks").glob("*.png")}


def test_from_the_files_to_samples_and_then_nothing_to_do(
    given: Arguments, origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = given["root"]
    prepare(**given)
    words = capsys.readouterr().out
    assert f"pascal_context is ready in {root}: 5 train, 4 val images" in words
    assert "annotations are of categories that are none of the sixty (100): drawn as background." in words
    assert "python src/train.py experiment=pascal_context/encnet_jpu_r50" in words
    found = trees.files_under(root)
    assert found.pop("prepared.json")
    assert found.pop("masks/.labels.json")
    expected = trees.files_under(trees.make_pascal_tree(tmp_path / "expected"))
    assert found.keys() == expected.keys() - {name for name in expected if "aeroplane_" in name}
    kept = {name for name in found if not name.startswith("masks/")}
    assert {name: found[name] for name in kept} == {name: expected[name] for name in kept}

    sample = PascalContext("val", root=root, classes=60)[1]
    assert sample.name == trees.pascal_stems()["val"][1]
    np.testing.assert_array_equal(sample.mask, trees.pascal_classes(trees.PASCAL_COUNTS["train"] + 1))

    shutil.rmtree(origin)
    before = trees.times_under(root)
    prepare(**given)
    assert capsys.readouterr().out.endswith("nothing to do.\n")
    assert trees.times_under(root) == before


def test_every_form_of_labels_gives_the_same_masks(given: Arguments, tmp_path: Path) -> None:
    trees.write_files(tmp_path / "classes", trees.pascal_pngs(60, palette=True))
    trees.make_tar(tmp_path / "ids.tar", trees.pascal_pngs(459, palette=False))
    trees.write_files(tmp_path / "maps", trees.pascal_mats())
    forms: list[Arguments] = [
        {"labels": "json"},
        {"labels": "mat"},
        {"mat": str(tmp_path / "maps")},
        {"png": str(tmp_path / "classes")},
        {"labels": "png", "png": str(tmp_path / "ids.tar"), "png_ids": 459},
    ]
    found = []
    for number, form in enumerate(forms):
        root = tmp_path / f"root{number}"
        prepare(**{**given, **form, "root": root})
        found.append(
            {**masks_of(root), "train": (root / "train.txt").read_bytes(), "val": (root / "val.txt").read_bytes()}
        )
    assert len(found[0]) == sum(trees.PASCAL_COUNTS.values()) + 2
    assert all(masks == found[0] for masks in found[1:])


def test_the_labels_that_are_here_are_taken(given: Arguments, origin: Path) -> None:
    given["downloads"].mkdir(parents=True)
    shutil.move(origin / FILES["mat"], given["downloads"])
    given["sources"]["mat"]["url"] = given["sources"]["json"]["url"] = "http://127.0.0.1:1/"
    prepare(**given)
    assert '"mat"' in (given["root"] / "masks/.labels.json").read_text()


def test_a_preview_changes_nothing(given: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trees.times_under(tmp_path)
    prepare(**given, dry_run=True)
    words = capsys.readouterr().out
    for key in ("images", "json"):
        assert all(value in words for value in given["sources"][key].values())
    assert FILES["mat"] not in words
    assert "convert the labels of trainval_merged.json" in words
    prepare(**given, labels="mat", dry_run=True)
    words = capsys.readouterr().out
    assert FILES["mat"] in words
    assert "none published" in words
    assert trees.times_under(tmp_path) == before


def test_an_interrupted_conversion_goes_on(given: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pascal_conversion.write_mask
    written: list[Path] = []

    def interrupted(job: pascal_conversion.Job) -> Path:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(whole(job))
        return written[-1]

    monkeypatch.setattr(pascal_conversion, "write_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(**given)
    monkeypatch.undo()
    assert not (given["root"] / "masks").exists()
    assert len(list(given["root"].glob(".masks-*/*.png"))) == 3
    times = {path.name: path.stat().st_mtime_ns for path in written}
    prepare(**given)
    masks = given["root"] / "masks"
    assert {name: (masks / name).stat().st_mtime_ns for name in times} == times
    assert not list(given["root"].glob(".masks-*"))
    again = {**given, "root": tmp_path / "undisturbed"}
    prepare(**again)
    assert masks_of(again["root"]) == masks_of(given["root"])


def test_lost_masks_are_made_again(given: Arguments) -> None:
    prepare(**given)
    before = trees.files_under(given["root"])
    (given["root"] / "masks/2008_000002.png").unlink()
    prepare(**given)
    assert trees.files_under(given["root"]) == before


def own_masks(tree: Path) -> None:
    trees.write_files(tree, trees.pascal_pngs(60, palette=False))


def without_image(tree: Path) -> None:
    (tree / "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg").unlink()


def other_size(tree: Path) -> None:
    Image.new("RGB", (3, 3)).save(tree / "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg")


def without_lists(tree: Path) -> None:
    shutil.rmtree(tree / "VOCdevkit/VOC2010/ImageSets")


@pytest.mark.parametrize(
    ("damage", "more", "words"),
    [
        (own_masks, {}, ["masks was not made by this program", "prepare.png="]),
        (without_image, {}, ["2008_000003.jpg is missing (1 of 9 images", "delete", "VOC2010 and run"]),
        (other_size, {}, ["2008_000003.jpg", "the image is 3 x 3"]),
        (without_lists, {"labels": "mat"}, ["ImageSets/Main/train.txt is missing"]),
        (None, {"labels": "xml"}, ["prepare.labels=xml: choose auto, json, mat, png."]),
        (None, {"labels": "png"}, ["prepare.png=..."]),
        (None, {"png": "/no/where"}, ["prepare.png=/no/where does not exist"]),
        (None, {"png_ids": 61, "png": "."}, ["prepare.png_ids=61"]),
        (None, {"counts": {"train": 5, "val": 5}}, ["names 4 val images, but 5 are expected", "prepare.counts.val"]),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_lost(
    given: Arguments, damage: Damage | None, more: Arguments, words: list[str]
) -> None:
    voc = {path: data for path, data in trees.voc_files().items() if "Annotations" not in path}
    trees.write_files(given["root"], voc)
    if damage is not None:
        damage(given["root"])
    before = trees.files_under(given["root"])
    with pytest.raises(UserError) as caught:
        prepare(**{**given, **more})
    is_one_sentence_with(caught.value, words)
    found = trees.files_under(given["root"])
    assert {name: found.get(name) for name in before} == before
    assert "prepared.json" not in found


def test_masks_of_other_labels_are_not_taken_for_what_is_asked(given: Arguments, origin: Path) -> None:
    prepare(**given)
    before = trees.files_under(given["root"])
    with pytest.raises(UserError, match=r"was made from the labels json, but prepare\.labels=mat"):
        prepare(**given, labels="mat")
    (given["root"] / "masks/2008_000002.png").unlink()
    (origin / FILES["json"]).write_text((origin / FILES["json"]).read_text() + "\n")
    sources = {**given["sources"], "json": {**given["sources"]["json"], "sha1": None}}
    with pytest.raises(UserError, match="made from other labels"):
        prepare(**{**given, "sources": sources})
    del before["masks/2008_000002.png"]
    assert trees.files_under(given["root"]) == before

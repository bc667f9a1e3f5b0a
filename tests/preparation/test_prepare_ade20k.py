from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fastfcn.data.ade20k import ADE20K
from fastfcn.errors import UserError
from fastfcn.preparation.ade20k import prepare
from fastfcn.preparation.steps import locked
from tests.data.tiny import Damage, is_one_sentence_with
from tests.preparation import trees
from tests.scripts import call

FILES = {"images": "ADEChallengeData2016.zip", "test": "release_test.zip"}
Arguments = dict[str, Any]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The archives, in a folder that stands for the public address."""
    trees.make_ade20k_archives(tmp_path / "origin")
    return tmp_path / "origin"


@pytest.fixture
def given(tmp_path: Path, origin: Path) -> Arguments:
    """The preparation's arguments."""
    shas = trees.sha1_of(origin, *FILES.values())
    return {
        "root": tmp_path / "data/ade20k",
        "downloads": tmp_path / "data/downloads",
        "sources": {
            key: {"file": file, "url": (origin / file).as_uri(), "sha1": shas[file]} for key, file in FILES.items()
        },
        "counts": trees.ADE_COUNTS,
        "retries": 0,
        "timeout": 5.0,
    }


def test_from_the_archives_to_samples_and_then_nothing_to_do(
    given: Arguments, origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = given["root"]
    prepare(**given)
    words = capsys.readouterr().out
    assert f"ade20k is ready in {root}: 6 train, 3 val, 2 test images" in words
    assert "python src/train.py experiment=ade20k/encnet_jpu_r50" in words
    trees.make_ade20k_tree(tmp_path / "expected")
    found = trees.files_under(root)
    assert found.pop("prepared.json")
    assert found == trees.files_under(tmp_path / "expected")
    assert [len(ADE20K(split, root=root)) for split in ("train", "val", "trainval", "test")] == [6, 3, 9, 2]
    assert ADE20K("val", root=root)[2].name == "ADE_val_00000003"

    shutil.rmtree(origin)
    before = trees.times_under(root)
    prepare(**given)
    words = capsys.readouterr().out
    assert words.startswith(f"ade20k is prepared in {root}: 6 train, 3 val, 2 test images (fingerprint ")
    assert words.endswith("); nothing to do.\n")
    assert trees.times_under(root) == before


def test_a_preview_changes_nothing(given: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trees.times_under(tmp_path)
    afar = {key: {**source, "url": f"http://127.0.0.1:1/{key}"} for key, source in given["sources"].items()}
    prepare(**{**given, "sources": afar}, dry_run=True)
    words = capsys.readouterr().out
    for source in afar.values():
        assert all(value in words for value in source.values())
    assert "missing" in words
    assert str(given["root"] / "release_test") in words
    assert "Free space" in words
    assert trees.times_under(tmp_path) == before
    prepare(**given)
    capsys.readouterr()
    before = trees.times_under(tmp_path)
    prepare(**given, dry_run=True)
    words = capsys.readouterr().out
    assert "not needed" in words
    assert "Nothing is to be done" in words
    assert trees.times_under(tmp_path) == before


def test_what_is_extracted_is_taken_without_the_archives(given: Arguments, origin: Path) -> None:
    shutil.rmtree(origin)
    trees.make_ade20k_tree(given["root"])
    prepare(**given)
    assert (given["root"] / "prepared.json").is_file()
    assert not given["downloads"].exists()


def test_without_the_images_of_the_test_server(given: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(**{**given, "sources": {**given["sources"], "test": None}})
    assert "6 train, 3 val images" in capsys.readouterr().out
    assert not (given["root"] / "release_test").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda tree: (tree / "ADEChallengeData2016/annotations/validation/ADE_val_00000002.png").unlink(),
            ["ADE_val_00000002.jpg has no mask", "delete"],
        ),
        (
            lambda tree: (tree / "ADEChallengeData2016/images/training/ADE_train_00000002.jpg").unlink(),
            ["training holds 5 images, but 6 are expected", "prepare.counts.train"],
        ),
        (lambda tree: (tree / "release_test/list.txt").unlink(), ["ADE_test_00000001.jpg has no line in", "list.txt"]),
        (
            lambda tree: shutil.rmtree(tree / "ADEChallengeData2016/images"),
            ["training holds 0 images, but 6 are expected"],
        ),
    ],
)
def test_an_incomplete_tree_is_told_and_kept(given: Arguments, damage: Damage, words: list[str]) -> None:
    trees.make_ade20k_tree(given["root"])
    damage(given["root"])
    before = trees.files_under(given["root"])
    with pytest.raises(UserError) as caught:
        prepare(**given)
    is_one_sentence_with(caught.value, words)
    assert trees.files_under(given["root"]) == before


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def with_way_out(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("ADEChallengeData2016/../../../outside.txt", b"outside")


@pytest.mark.parametrize("damage", [truncated, with_way_out])
@pytest.mark.parametrize("checksum", ["known", "none"])
def test_a_wrong_archive_leaves_nothing_behind(given: Arguments, origin: Path, damage: Damage, checksum: str) -> None:
    archive = origin / "ADEChallengeData2016.zip"
    damage(archive)
    if checksum == "none":
        given["sources"]["images"]["sha1"] = None
    with pytest.raises(UserError) as caught:
        prepare(**given)
    is_one_sentence_with(caught.value, ["ADEChallengeData2016.zip"])
    assert trees.files_under(given["root"]) == {}
    assert not list(origin.parent.rglob("outside.txt"))


def test_another_count_than_expected_is_told(given: Arguments) -> None:
    counts = {**trees.ADE_COUNTS, "val": 4}
    with pytest.raises(UserError) as caught:
        prepare(**{**given, "counts": counts})
    is_one_sentence_with(caught.value, ["validation holds 3 images, but 4 are expected", "prepare.counts.val"])
    assert not (given["root"] / "prepared.json").exists()
    prepare(**given)


def test_one_preparation_at_a_time(given: Arguments) -> None:
    with locked(given["root"]), pytest.raises(UserError, match="Another process prepares"):
        prepare(**given)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_target_that_cannot_be_made_is_told(given: Arguments, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError) as caught:
        prepare(**given)
    is_one_sentence_with(caught.value, [str(given["root"]), os.strerror(code), "data.dataset.root"])


@pytest.mark.parametrize("key", ["root", "downloads"])
def test_a_tilde_is_the_home_folder(
    given: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """As a settings file names it, where no shell has replaced it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if key == "downloads":
        shutil.copytree(tmp_path / "origin", tmp_path / "home/here")
    prepare(**{**given, key: "~/here"})
    assert (tmp_path / "home/here").is_dir()
    assert not (tmp_path / "~").exists()
    root = "~/here" if key == "root" else given["root"]
    assert len(ADE20K("train", root=root)) == trees.ADE_COUNTS["train"]


def test_the_script_without_network(tmp_path: Path) -> None:
    """All files at once: what, from where, with which checksum, to where."""
    addresses = [f"prepare.sources.{key}.url=http://127.0.0.1:1/{file}" for key, file in FILES.items()]
    sentence = call(
        "prepare.py", "data=ade20k", f"paths.data_dir={tmp_path}", "prepare.retries=0", *addresses
    ).sentence()
    for word in (
        *FILES.values(),
        "http://127.0.0.1:1/",
        "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
        f"{tmp_path}/downloads",
    ):
        assert word in sentence


def test_the_script_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    def sentence(*overrides: str) -> str:
        return call("prepare.py", f"paths.data_dir={tmp_path}", *overrides).sentence()

    assert "choose one of ade20k, coco, folder, pascal_context, scenes" in sentence()
    assert "prepare.retries=many: give a whole number" in sentence("data=ade20k", "prepare.retries=many")
    assert "prepare.dry_run=perhaps: give true or false" in sentence("data=ade20k", "prepare.dry_run=perhaps")
    assert "prepare.sources.images.url=" in sentence("data=ade20k", "prepare.sources.images.url=null")
    assert "prepare.sources.images is not given" in sentence("data=ade20k", "prepare.sources.images=null")
    assert not list(tmp_path.iterdir())


def test_data_that_need_no_preparation(tmp_path: Path) -> None:
    done = call("prepare.py", "data=scenes", f"paths.data_dir={tmp_path}").check()
    assert "needs no preparation" in done.out
    assert not list(tmp_path.iterdir())

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastfcn.preparation import fingerprint
from fastfcn.preparation.fingerprint import Prepared


def make(root: Path) -> Path:
    for name, content in {"images/a.jpg": "aaa", "images/b.jpg": "bbb", "masks/a.png": "1", "masks/b.png": "2"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def written(root: Path, *, backwards: bool = False) -> Prepared:
    images, labels = (sorted((root / kind).iterdir(), reverse=backwards) for kind in ("images", "masks"))
    return fingerprint.write(
        root, dataset="tiny", counts={"train": 2}, sources={"x.zip": "ab" * 20, "y": None}, images=images, labels=labels
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert fingerprint.read(make(tmp_path)) is None
    prepared = written(tmp_path)
    assert fingerprint.read(tmp_path) == prepared
    assert len(prepared.fingerprint) == 64
    assert {path.name for path in tmp_path.iterdir()} == {"images", "masks", "prepared.json"}


def test_the_same_data_elsewhere_have_the_same_fingerprint(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    assert written(one).fingerprint == written(two, backwards=True).fingerprint


@pytest.mark.parametrize("change", ["mask", "image size", "name", "missing"])
def test_a_change_shows(tmp_path: Path, change: str) -> None:
    root = make(tmp_path)
    before = written(root).fingerprint
    if change == "mask":
        (root / "masks/a.png").write_text("3")
    elif change == "image size":
        (root / "images/a.jpg").write_text("aaaa")
    elif change == "name":
        (root / "images/a.jpg").rename(root / "images/c.jpg")
    else:
        (root / "masks/b.png").unlink()
    assert written(root).fingerprint != before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 1}'])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "prepared.json").write_text(content)
    assert fingerprint.read(tmp_path) is None


def test_a_later_version_is_prepared_anew(tmp_path: Path) -> None:
    written(make(tmp_path))
    content = json.loads((tmp_path / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps({**content, "version": 2}))
    assert fingerprint.read(tmp_path) is None

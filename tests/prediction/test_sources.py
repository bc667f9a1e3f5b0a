"""What an input names, and what the predictions of it are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastfcn.errors import UserError
from fastfcn.prediction.record import RECORD_FILE
from fastfcn.prediction.sources import camera, find, unique_names
from tests.prediction.pictures import save, video


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("b.jpg", "a.png", "a.jpg", "sub/c.PNG", ".hidden.png", ".cache/d.png", "made/mask/a.png"):
        save(root / name)
    (root / "made" / RECORD_FILE).write_text("{}")
    (root / "notes.txt").write_text("no image")
    video(root / "clip.avi")
    return root


def names(places: list[str], out: Path | None = None) -> list[str]:
    return [item.name for item in find(places, out=out)]


def test_a_folder_keeps_its_sub_folders_and_tells_equal_names_apart(photos: Path) -> None:
    items = find([str(photos)], out=None)
    assert [item.name for item in items] == ["a.jpg", "a.png", "b", "clip", "sub/c"]
    assert [item.kind for item in items] == ["image", "image", "image", "video", "image"]
    assert items[-1].path == (photos / "sub/c.PNG").resolve()


def test_what_lies_in_out_is_no_input(photos: Path) -> None:
    assert names([str(photos)], out=photos / "sub") == ["a.jpg", "a.png", "b", "clip"]


def test_globs(photos: Path) -> None:
    assert names([f"{photos}/*.jpg"]) == ["a", "b"]
    assert names([f"{photos}/**/*.[pP][nN][gG]"]) == ["a", "made/mask/a", "sub/c"]
    assert names([f"{photos}/s*"]) == ["sub/c"]
    bracket = photos / "x[1].png"
    save(bracket)
    assert names([str(bracket)]) == ["x[1]"]


def test_urls_and_lists(photos: Path) -> None:
    spaced = photos / "with space 5%.png"
    save(spaced)
    assert names([spaced.as_uri(), str(photos / "b.jpg"), str(photos / "b.jpg")]) == ["with space 5%", "b"]
    assert names([(photos / "sub").as_uri()]) == ["c"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/nowhere/a.png", "no such file or folder"),
        ("{photos}/*.gif", "holds no image and no video"),
        ("https://example.org/a.jpg", "only files of this machine"),
        ("file:///nowhere/a.png", "no such file"),
    ],
)
def test_what_is_not_there(photos: Path, place: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find([place.replace("{photos}", str(photos))], out=None)


def test_names_are_unique_whatever_the_files_are_called() -> None:
    paths = ["a.jpg", "a.png", "a.jpg.jpg", "A.webp", "b.png", "a.JPG"]
    found = unique_names(paths)
    assert len({name.casefold() for name in found}) == len(paths)
    assert found[4] == "b"
    assert unique_names(["x/a.jpg", "y/a.jpg"]) == ["x/a", "y/a"]


def test_cameras() -> None:
    assert [camera(place) for place in ("webcam", "webcam:2", "webcam.png", "photos")] == [0, 2, None, None]
    with pytest.raises(UserError, match="webcam:0 for the first"):
        camera("webcam:front")

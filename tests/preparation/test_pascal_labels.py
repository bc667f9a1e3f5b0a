from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.pascal_context import PALETTE
from fastfcn.errors import UserError
from fastfcn.preparation.pascal_conversion import convert
from fastfcn.preparation.pascal_labels import CLASS_OF_CATEGORY, JsonLabels, Labels, Regions, StoredLabels, StoredMap
from fastfcn.whole_files import PARTIAL
from tests.data.tiny import is_one_sentence_with
from tests.preparation import trees
from tests.scripts import SRC, environment

# pycocotools 2.0.11 does not know a keyword of numpy 2's protocol yet; numpy does without it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEMS = [stem for stems in trees.pascal_stems().values() for stem in stems]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    trees.make_pascal_tree(tmp_path / "tree")
    return tmp_path / "tree/VOCdevkit/VOC2010/JPEGImages"


def stored(folder: Path, form: str) -> Labels:
    """The same labels in one of their forms."""
    if form == "json":
        trees.make_pascal_json(folder)
        return JsonLabels(folder / "trainval_merged.json")
    ids = 60 if "60" in form else 459
    files = trees.pascal_mats() if "mat" in form else trees.pascal_pngs(ids, palette="palette" in form)
    if "upper-case" in form:
        files = {f"{name[:-4]}{name[-4:].upper()}": data for name, data in files.items()}
    kind: Literal["mat", "png"] = "mat" if "mat" in form else "png"
    if "folder" in form:
        trees.write_files(folder, {**files, "masks/._x.png": b"no mask"})
        return StoredLabels(folder, kind, ids=ids)
    folder.mkdir(exist_ok=True)
    if "zip" in form:
        with zipfile.ZipFile(folder / "labels.zip", "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
        return StoredLabels(folder / "labels.zip", kind, ids=ids)
    trees.make_tar(folder / "labels.tar.gz", files)
    return StoredLabels(folder / "labels.tar.gz", kind, ids=ids)


@pytest.mark.parametrize(
    "form",
    [
        "json", "mat folder", "mat tar", "png60 grey folder", "png60 palette zip", "png459 grey tar",
        "MAT upper-case mat tar", "PNG upper-case png60 grey folder",
    ],
)  # fmt: skip
def test_every_form_gives_the_same_classes(tmp_path: Path, form: str) -> None:
    labels = stored(tmp_path, form)
    maps: dict[str, Regions | StoredMap] = {}
    maps.update(labels.maps(STEMS))
    assert sorted(maps) == STEMS
    for index, stem in enumerate(STEMS):
        classes = pickle.loads(pickle.dumps(maps[stem])).read()  # noqa: S301
        assert classes.dtype == np.uint8
        np.testing.assert_array_equal(classes, trees.pascal_classes(index))
    assert [stem for stem, _ in labels.maps(STEMS[3:4])] == STEMS[3:4]
    assert labels.splits == (trees.pascal_stems() if form == "json" else None)


def test_the_sixty_categories() -> None:
    assert CLASS_OF_CATEGORY[[0, 2, 9, 18, 454, 458]].tolist() == [0, 1, 2, 3, 58, 59]
    assert np.count_nonzero(CLASS_OF_CATEGORY) == 59
    # In the order in which the original's list gives them, all sixty.
    ids = """0 2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420 454 295 296 427 44 45 46 308 59
        440 445 31 232 65 354 424 68 326 72 458 34 207 80 355 85 347 220 349 360 98 187 104 105 366 189 368 113 115"""
    categories = sorted(map(int, ids.split()))
    assert CLASS_OF_CATEGORY[categories].tolist() == list(range(60))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ({"size": [4, 5], "counts": "04"}, "of 4 pixels, but its image has 20"),  # cut off
        ({"size": [5, 4], "counts": [0, 20]}, "is 4 x 5 pixels, but its image 5 x 4"),
    ],
)
def test_a_damaged_code_is_told_and_nothing_drawn(code: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"An annotation of a .*{words}: the JSON of the labels is damaged"):
        Regions("a", (4, 5), ((1, code),)).read()


def test_later_annotations_lie_over_earlier_ones_and_categories_beyond_the_sixty_are_told(tmp_path: Path) -> None:
    labels = stored(tmp_path, "json")
    assert isinstance(labels, JsonLabels)
    last = dict(labels.maps(STEMS))[STEMS[0]].read()
    height, width = last.shape
    assert last[height // 2, width // 2] == 59  # the disc in the middle was drawn last
    assert len(labels.notes) == 1
    assert f"{len(STEMS) + 1} annotations" in labels.notes[0]
    assert f"({trees.OTHER})" in labels.notes[0]


def test_runs_as_numbers(tmp_path: Path) -> None:
    trees.make_pascal_json(tmp_path)
    path = tmp_path / "trainval_merged.json"
    content = json.loads(path.read_text())
    image = content["images"][0]
    size = [image["height"], image["width"]]
    runs = {"size": size, "counts": [0, size[0], size[0] * (size[1] - 1)]}  # the first column
    content["annos_segmentation"] = [{"image_id": image["image_id"], "category_id": 458, "segmentation": runs}]
    path.write_text(json.dumps(content))
    maps = dict(JsonLabels(path).maps(STEMS))
    expected = np.zeros(size, np.uint8)
    expected[:, 0] = 59
    np.testing.assert_array_equal(maps[STEMS[0]].read(), expected)
    assert maps[STEMS[1]].read().max() == 0  # an image without annotation is background


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("trainval_merged.json", b'{"images": [', ["trainval_merged.json is not the JSON", "fetch it again"]),
        ("trainval_merged.json", b'{"images": []}', ["trainval_merged.json is not the JSON", "annos_segmentation"]),
        ("a.mat", b"no matrix", ["a.mat cannot be read as a MATLAB file", "LabelMap"]),
        ("a.png", b"no picture", ["a.png cannot be read as an image"]),
        ("a.png", trees.png(Image.new("L", (4, 4), 60)), ["a.png holds the value 60", "prepare.png_ids=459"]),
        ("a.png", trees.png(Image.new("RGB", (4, 4))), ["a.png does not hold one whole number per pixel"]),
    ],
)
def test_damaged_labels_are_told_by_name(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    (tmp_path / name).write_bytes(content)

    def read() -> None:
        if name.endswith(".json"):
            JsonLabels(tmp_path / name)
        kind: Literal["mat", "png"] = "mat" if name.endswith(".mat") else "png"
        dict(StoredLabels(tmp_path, kind, ids=60).maps({"a"}))["a"].read()

    with pytest.raises(UserError) as caught:
        read()
    is_one_sentence_with(caught.value, words)


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    trees.make_tar(tmp_path / "trainval.tar.gz", trees.pascal_mats())
    whole = (tmp_path / "trainval.tar.gz").read_bytes()
    (tmp_path / "trainval.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"trainval\.tar\.gz is damaged"):
        list(StoredLabels(tmp_path / "trainval.tar.gz", "mat").maps(STEMS))


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_masks_are_palette_pictures_and_those_that_are_there_are_kept(
    tmp_path: Path, images: Path, workers: int | None
) -> None:
    labels, masks = stored(tmp_path, "json"), tmp_path / "masks"
    masks.mkdir()
    (masks / f"{STEMS[0]}.png").write_bytes(b"kept")
    (masks / f".{STEMS[1]}.png.1{PARTIAL}").write_bytes(b"half")
    told: list[None] = []
    convert(labels, STEMS, images=images, masks=masks, workers=workers, done=lambda: told.append(None))
    assert sorted(path.name for path in masks.iterdir()) == [f"{stem}.png" for stem in STEMS]
    assert len(told) == len(STEMS)
    assert (masks / f"{STEMS[0]}.png").read_bytes() == b"kept"
    for index, stem in enumerate(STEMS[1:], start=1):
        with Image.open(masks / f"{stem}.png") as file:
            assert file.mode == "P"
            assert file.getpalette() == [channel for color in PALETTE for channel in color]
            np.testing.assert_array_equal(np.asarray(file), trees.pascal_classes(index))


def test_labels_that_do_not_fit_the_images_are_told(tmp_path: Path, images: Path) -> None:
    labels = stored(tmp_path, "json")

    def fails(stems: list[str], words: list[str]) -> None:
        with pytest.raises(UserError) as caught:
            convert(labels, stems, images=images, masks=tmp_path / "masks", workers=None, done=lambda: None)
        is_one_sentence_with(caught.value, words)
        assert not list((tmp_path / "masks").glob(".*"))

    fails([*STEMS, "2010_000001"], ["trainval_merged.json has no labels of the image 2010_000001", "1 of 10"])
    Image.new("RGB", (7, 5)).save(images / f"{STEMS[2]}.jpg")
    (tmp_path / "masks" / f"{STEMS[2]}.png").unlink()
    fails(STEMS, [f"{STEMS[2]}.jpg", "the image is 7 x 5"])
    (images / f"{STEMS[2]}.jpg").write_bytes(b"")
    fails(STEMS, [f"{STEMS[2]}.jpg cannot be read as an image"])


@pytest.mark.slow
def test_the_processes_of_a_killed_conversion_end(tmp_path: Path, images: Path) -> None:
    stored(tmp_path, "json")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, pathlib, time
        from fastfcn.preparation import pascal_conversion, pascal_labels

        class Slow(pascal_labels.JsonLabels):
            def maps(self, stems):
                for found in super().maps(stems):
                    yield found
                    time.sleep(0.2)

        if __name__ == "__main__":
            pascal_conversion.convert(
                Slow(pathlib.Path({str(tmp_path / "trainval_merged.json")!r})), {STEMS!r},
                images=pathlib.Path({str(images)!r}), masks=pathlib.Path({str(tmp_path / "masks")!r}),
                workers=2, done=lambda: print("done", flush=True),
            )
        """)
    )
    variables = {**environment(), "PYTHONPATH": str(SRC)}
    process = subprocess.Popen(
        [sys.executable, program], env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == "done\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        lines.read()  # ends when the last process that holds the pipe has ended
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("processes were left behind")

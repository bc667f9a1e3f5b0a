from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fastfcn.data.coco import CocoDataset
from fastfcn.data.coco_regions import _runs, region
from fastfcn.errors import BadSampleError, SizeMismatchError, UserError
from fastfcn.preparation import doctor
from fastfcn.types import IGNORE_INDEX
from tests.data.coco_tree import CATEGORIES, SIZE, block, compressed, content, spoil, tree, write
from tests.data.tiny import is_one_sentence_with, picture, save

FILES = {"train": "annotations/train.json", "val": "annotations/val.json", "test": None}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "pets")


def opened(folder: Path, split: str = "train", **settings: Any) -> CocoDataset:
    return CocoDataset(split, **{"root": folder, "annotations": FILES, **settings})


def drawn(*parts: tuple[int, slice, slice], unlabelled: int = 0) -> np.ndarray[Any, Any]:
    expected = np.full(SIZE, unlabelled)
    for value, rows, columns in parts:
        expected[rows, columns] = value
    return expected


#: Where the three annotations of each image lie.
DOG, CAT, TREE = (slice(0, 4), slice(0, 4)), (slice(2, 6), slice(2, 6)), (slice(0, 3), slice(3, 8))


def test_classes_are_the_categories_by_id_behind_the_background(root: Path) -> None:
    dataset = opened(root)
    assert dataset.facts.class_names == ("background", "cat", "dog", "tree")
    assert dataset.facts.name == "pets"
    assert len(dataset) == 2
    image, mask, name = dataset[0]
    assert name == "b"
    np.testing.assert_array_equal(image, picture(*SIZE))
    assert mask.dtype == np.int16
    np.testing.assert_array_equal(mask, drawn((2, *DOG), (1, *CAT), (3, *TREE)))


def test_what_is_drawn_over_what(root: Path) -> None:
    """Dog and cat have 16 pixels each, the trees 15: they stay on top, and of equals the file's order counts."""
    np.testing.assert_array_equal(opened(root, overlap="smallest")[0].mask, opened(root)[0].mask)
    spoil(root, lambda c: c["annotations"].reverse())
    reversed_mask = drawn((3, *TREE), (1, *CAT), (2, *DOG))
    np.testing.assert_array_equal(opened(root)[0].mask, reversed_mask)
    np.testing.assert_array_equal(opened(root, overlap="smallest")[0].mask, drawn((1, *CAT), (2, *DOG), (3, *TREE)))


def test_options_of_classes_and_pixels(root: Path) -> None:
    ignoring = opened(root, unlabelled="ignore", crowd="ignore")
    assert ignoring.facts.class_names == ("cat", "dog", "tree")
    expected = drawn((1, *DOG), (0, *CAT), (IGNORE_INDEX, *TREE), unlabelled=IGNORE_INDEX)
    np.testing.assert_array_equal(ignoring[0].mask, expected)
    some = opened(root, categories=["tree", "cat"], background="rest")
    assert some.facts.class_names == ("rest", "tree", "cat")
    np.testing.assert_array_equal(some[0].mask, drawn((2, *CAT), (1, *TREE)))
    grouped = opened(root, categories={"animal": ["dog", "cat"]})
    assert grouped.facts.class_names == ("background", "animal")
    np.testing.assert_array_equal(grouped[0].mask, drawn((1, *DOG), (1, *CAT)))


def test_one_file_is_split_by_the_names_of_its_images(root: Path) -> None:
    stems = tuple(f"picture{number}" for number in range(40))
    write(root, content(stems), "all")
    for stem in stems:
        save(picture(*SIZE), root / f"images/{stem}.png")
    one = {"annotations": "annotations/all.json", "val_share": 0.25}
    train, val = ({s.name for s in opened(root, split, **one).samples} for split in ("train", "val"))
    assert train | val == set(stems)
    assert not train & val
    assert 5 <= len(val) <= 15
    write(root, content(stems[::-1]), "all")
    assert {s.name for s in opened(root, "val", **one).samples} == val
    for settings, word in (({"annotations": "annotations/all.json"}, "val_share=0.2"), (one, "'test'")):
        with pytest.raises(UserError, match=word):
            opened(root, "test", **settings)


def test_folders_and_names_that_tools_write(root: Path) -> None:
    (root / "images").rename(root / "train2017")
    (root / "train2017/sub").mkdir()
    (root / "train2017/a.png").rename(root / "train2017/sub/a.png")
    spoil(root, lambda c: c["images"][0].update(file_name="train2017/b.png"))  # from the root
    spoil(root, lambda c: c["images"][1].update(file_name="sub\\a.png"))
    dataset = opened(root, image_dir={"train": "train2017", "val": "val2017"})
    assert [sample.name for sample in dataset.samples] == ["train2017/b", "sub/a"]
    assert dataset[1].mask.max() == 3


def test_a_file_without_annotations_is_of_a_test_server(root: Path) -> None:
    spoil(root, lambda c: c.pop("annotations"))
    dataset = opened(root)
    assert not dataset.labelled
    assert (dataset[0].mask == IGNORE_INDEX).all()
    spoil(root, lambda c: c.update(annotations=[]))  # nothing in them is something else
    assert (opened(root)[0].mask == 0).all()


def test_a_worker_gets_it_whole_and_small(root: Path) -> None:
    stems = tuple(f"p{number}" for number in range(300))
    write(root, content(stems), "all")
    for stem in stems:
        (root / f"images/{stem}.png").touch()
    dataset = opened(root, "train", annotations={"train": "annotations/all.json"})
    sent = pickle.dumps(dataset)
    assert len(sent) < 1.5 * (root / "annotations/all.json").stat().st_size
    np.testing.assert_array_equal(pickle.loads(sent).mask(299), dataset.mask(0))  # noqa: S301


@pytest.mark.parametrize("seed", range(20))
def test_codes_agree_with_pycocotools(seed: int) -> None:
    """Compressed codes of any runs, by the other way round: pycocotools writes them."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
    mask = np.repeat(rng.random(-(-size[0] * size[1] // 7)) < 0.5, 7)[: size[0] * size[1]].reshape(size, order="F")
    code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = code["counts"].decode()
    np.testing.assert_array_equal(region({"size": list(size), "counts": text}, size).pixels(), mask)
    runs = _runs(text)
    np.testing.assert_array_equal(region({"size": list(size), "counts": runs}, size).pixels(), mask)
    assert coco.frPyObjects({"size": list(size), "counts": runs}, *size)["counts"] == code["counts"]
    assert region({"size": list(size), "counts": runs}, size).area == mask.sum()


def test_a_polygon_of_several_parts_is_their_union() -> None:
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [1.0, 1.0, 8.5, 1.0, 8.5, 6.5, 1.0, 6.5]]  # half a pixel beyond, as tools round
    expected = drawn((1, slice(0, 2), slice(0, 2)), (1, slice(1, 6), slice(1, 8)))
    np.testing.assert_array_equal(region(parts, SIZE).pixels(), expected.astype(bool))


SPOILT: dict[str, tuple[Any, list[str]]] = {
    "none": (None, ["neither"]),
    "empty": ([], ["neither"]),
    "a box": ([[0, 0, 4, 4]], ["4 numbers", "three corners"]),
    "odd": ([[0, 0, 4, 4, 1, 1, 2]], ["7 numbers"]),
    "text": ([[0, 0, 4, 4, 1, "1"]], ["something else than numbers"]),
    "nan": ([[0, 0, 4, 4, 1, float("nan")]], ["something else than numbers"]),
    "infinite": ([[0, 0, 4, 4, 1, float("inf")]], ["y = inf", "8 x 6"]),
    "huge": ([[0, 0, 10**400, 4, 1, 1]], ["outside"]),
    "outside": ([[0, 0, 4, 0, 4, -1.5]], ["y = -1.5", "outside of its image of 8 x 6"]),
    "right of it": ([[0, 0, 10, 0, 4, 4]], ["x = 10", "outside"]),
    "another size": ({**compressed(block(slice(0, 1), slice(0, 1))), "size": [8, 6]}, ["6 x 8", "8 x 6"]),
    "no size": ({"counts": "0"}, ["without its size"]),
    "cut off": ({"size": [6, 8], "counts": compressed(block(*CAT))["counts"][:-2]}, ["pixels, but its image has 48"]),
    "cut within": ({"size": [6, 8], "counts": "`"}, ["cut off"]),
    "no code": ({"size": [6, 8], "counts": "hello world"}, ["' '"]),
    "too short": ({"size": [6, 8], "counts": [3, 4]}, ["of 7 pixels", "48"]),
    "negative": ({"size": [6, 8], "counts": [-2, 50]}, ["of 48 pixels"]),
    "no numbers": ({"size": [6, 8], "counts": [3.5]}, ["neither text nor whole numbers"]),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_segmentation_that_is_wrong_names_file_and_annotation(case: str, root: Path) -> None:
    segmentation, words = SPOILT[case]
    spoil(root, lambda c: c["annotations"][1].update(segmentation=segmentation))
    dataset = opened(root)
    assert dataset[1].mask.max() == 3  # the others are as they were
    with pytest.raises(BadSampleError) as caught:
        dataset[0]
    is_one_sentence_with(caught.value, ["annotations/train.json", "annotation 101", "b.png", *words])


def test_an_image_of_another_size(root: Path) -> None:
    save(picture(6, 9), root / "images/a.png")
    with pytest.raises(SizeMismatchError) as caught:
        opened(root)[1]
    is_one_sentence_with(caught.value, ["train.json: image 12 (a.png) is 8 x 6 pixels", "images/a.png is 9 x 6"])


def change(key: str, index: int, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda what: what[key][index].update(values)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "category": (change("annotations", 2, category_id=4), ["annotation 102", "category 4", "3, 7, 90"]),
    "category of a kind": (change("annotations", 2, category_id=[3]), ["annotation 102", "category [3]"]),
    "no image": (change("images", 1, file_name="z.png"), ["image 12", "images/z.png", "data.dataset.image_dir"]),
    "no file name": (change("images", 1, file_name=None), ["image 12", "file_name"]),
    "no id": (lambda c: c["images"][1].pop("id"), ["image number 2", "id"]),
    "no size": (lambda c: c["images"][1].pop("width"), ["image 12", "height and width"]),
    "endless size": (change("images", 1, width=10**9), ["image 12", "more than an image can have"]),
    "id twice": (change("images", 1, id=11), ["two images of the id 11"]),
    "name twice": (change("images", 1, file_name="b.png"), ["file_name 'b.png'"]),
    "category twice": (change("categories", 1, name="dog"), ["two categories of the name 'dog'"]),
    "category without name": (change("categories", 1, name=""), ["needs a whole number and a name"]),
    "no categories": (lambda c: c.update(categories=[]), ["has no categories"]),
    "no images": (lambda c: c.update(images=[]), ["lists no images"]),
    "other layout": (lambda c: c.pop("images"), ["COCO's layout", "COCO instances"]),
    "entries": (lambda c: c.update(annotations=[1]), ["annotations is not a list"]),
    "background": (change("categories", 1, name="background"), ["data.dataset.background"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_told_at_once(case: str, root: Path) -> None:
    damage, words = BROKEN[case]
    spoil(root, damage)
    with pytest.raises(UserError) as caught:
        opened(root)
    is_one_sentence_with(caught.value, words)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"text"', "[" * 100_000, '{"images": \xff}'])
def test_no_json(text: str, root: Path) -> None:
    (root / "annotations/train.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        opened(root)
    is_one_sentence_with(caught.value, ["annotations/train.json", "export"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"root": "/nowhere"}, ["data.dataset.root=/nowhere"]),
        ({"annotations": {"train": "no.json"}}, ["no.json", "data.dataset.annotations"]),
        ({"annotations": {"val": "annotations/val.json"}}, ["'train'", "val"]),
        ({"categories": ["cow"]}, ["data.dataset.categories", "'cow'", "cat, dog, tree"]),
        ({"categories": {"a": ["cat"], "b": ["cat"]}}, ["'cat' twice"]),
        ({"thin_classes": ["leg"]}, ["thin_classes", "'leg'"]),
        ({"palette": [[0, 0, 0]]}, ["data.dataset.palette"]),
        ({"overlap": "first"}, ["data.dataset.overlap=first", "last or smallest"]),
        ({"unlabelled": "maybe"}, ["background or ignore"]),
        ({"crowd": "maybe"}, ["class or ignore"]),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: list[str], root: Path) -> None:
    with pytest.raises(UserError) as caught:
        opened(root, **settings)
    is_one_sentence_with(caught.value, words)


def test_the_check_tells_all_that_is_wrong(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def damage(what: dict[str, Any]) -> None:
        what["annotations"][0]["category_id"] = 5
        what["annotations"][1]["segmentation"] = {"size": [6, 8], "counts": [1]}
        what["annotations"][4]["image_id"] = 99
        what["images"].append({"id": 13, "file_name": "z.png", "height": 6, "width": 8})

    def check() -> tuple[bool, dict[str, str]]:
        ready = doctor.check(
            lambda split: opened(root, split, strict=False), ["train", "val"], name="coco", out=tmp_path
        )
        findings = json.loads((tmp_path / "check.json").read_text())["findings"]
        return ready, {found["kind"]: found["text"] for found in findings}

    assert check()[0]
    spoil(root, damage)
    ready, told = check()
    assert not ready
    assert "annotation 100" in told["unknown label"]
    assert "annotation 101" in told["unreadable file"]
    assert "annotation 111" in told["mask without image"]
    assert "z.png" in told["missing image"]
    assert "Training cannot start" in capsys.readouterr().out


def test_splits_of_different_classes_are_refused(root: Path) -> None:
    from tests.data.test_datamodule import make

    spoil(root, lambda c: c.update(categories=[*CATEGORIES[1:], {"id": 7, "name": "wolf"}]), "val")
    data = make(lambda split: opened(root, split))
    data.open("train")
    with pytest.raises(UserError, match=r"train and val have different classes, class 2 is 'dog' and 'wolf'"):
        data.open("val")


def test_predictions_of_images_elsewhere_stay_in_their_folder(root: Path, tmp_path: Path) -> None:
    """Their names are those under which a submission writes: an absolute one would write over the image itself."""

    def elsewhere(what: dict[str, Any]) -> None:
        first, second = what["images"]
        for image, told in ((first, str(tmp_path / "one.png")), (second, "../two.png")):
            Image.new("RGB", (image["width"], image["height"])).save(root / "images" / told)
            image["file_name"] = told

    spoil(root, elsewhere)
    names = [sample.name for sample in opened(root).samples]
    assert [Path(name).name for name in names] == ["one", "two"]
    assert not any(Path(name).is_absolute() or ".." in Path(name).parts for name in names)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.ade20k import ADE20K, CLASS_NAMES, PALETTE
from fastfcn.errors import BadSampleError, UserError
from fastfcn.types import IGNORE_INDEX
from tests.data.tiny import is_one_sentence_with
from tests.preparation.trees import ADE_COUNTS, make_ade20k_tree

LABELLED = {"train": 6, "val": 3, "trainval": 9}


def test_facts() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(PALETTE) == 150
    # Some lines of objectInfo150.txt and color150.mat, by the value in a mask.
    for value, name, color in (
        (1, "wall", (120, 120, 120)),
        (3, "sky", (6, 230, 230)),
        (13, "person", (150, 5, 61)),
        (84, "truck", (255, 0, 20)),
        (150, "flag", (92, 0, 255)),
    ):
        assert (CLASS_NAMES[value - 1], PALETTE[value - 1]) == (name, color)


@pytest.mark.parametrize("split", LABELLED)
def test_zero_counts_nowhere_and_one_is_class_zero(tmp_path: Path, split: str) -> None:
    root = make_ade20k_tree(tmp_path)
    dataset = ADE20K(split, root=root)
    assert len(dataset) == LABELLED[split]
    assert dataset.labelled
    assert dataset.facts.num_classes == 150
    names = set()
    for index, sample in enumerate(dataset.samples):
        raw = dataset[index]
        names.add(raw.name)
        assert sample.mask is not None
        values = np.asarray(Image.open(sample.mask)).astype(int)
        np.testing.assert_array_equal(raw.mask, np.where(values == 0, IGNORE_INDEX, values - 1))
        np.testing.assert_array_equal(raw.image, np.asarray(Image.open(sample.image).convert("RGB")))
    assert len(names) == len(dataset)
    assert all(name.startswith(("ADE_train_", "ADE_val_")) for name in names)


def test_the_server_s_images_have_no_masks_and_the_order_of_its_list(tmp_path: Path) -> None:
    root = make_ade20k_tree(tmp_path)
    listed = (root / "release_test/list.txt").read_text().split()
    (root / "release_test/list.txt").write_text("\n".join(reversed(listed)))
    dataset = ADE20K("test", root=root)
    assert [sample.image.name for sample in dataset.samples] == listed[::-1]
    assert len(dataset) == ADE_COUNTS["test"]
    assert not dataset.labelled
    assert (dataset[0].mask == IGNORE_INDEX).all()
    assert dataset[0].mask.shape == dataset[0].image.shape[:2]


def test_missing_data_names_the_command(tmp_path: Path) -> None:
    for split in ("train", "test"):
        with pytest.raises(UserError) as caught:
            ADE20K(split, root=tmp_path)
        is_one_sentence_with(caught.value, [str(tmp_path), "python src/prepare.py data=ade20k"])
    root = make_ade20k_tree(tmp_path)
    (root / "release_test/testing/ADE_test_00000002.jpg").unlink()
    with pytest.raises(UserError, match=r"ADE_test_00000002.jpg is missing, .* \(1 of 2 are\)"):
        ADE20K("test", root=root)
    (root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png").unlink()
    with pytest.raises(UserError, match=r"ADE_val_00000001.jpg has no mask"):
        ADE20K("val", root=root)
    lenient = ADE20K("val", root=root, strict=False)
    assert len(lenient) == 2
    assert len(lenient.findings) == 1
    assert lenient.findings[0].kind == "missing mask"
    assert "ADE_val_00000001.jpg has no mask" in lenient.findings[0].text


def test_a_label_above_150_is_named(tmp_path: Path) -> None:
    root = make_ade20k_tree(tmp_path)
    path = root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[3, 4] = 151
    Image.fromarray(mask).save(path)
    with pytest.raises(BadSampleError, match=r"ADE_val_00000001.png holds the value 151, .* 150 classes"):
        ADE20K("val", root=root)[0]


@pytest.mark.parametrize(("arguments", "word"), [({"split": "minival"}, "minival"), ({"thin_classes": ["x"]}, "'x'")])
def test_a_mistake_is_named(tmp_path: Path, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        ADE20K(**{"split": "train", "root": make_ade20k_tree(tmp_path), **arguments})

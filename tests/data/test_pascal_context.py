from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.pascal_context import CATEGORY_IDS, CLASS_NAMES, PALETTE, PascalContext
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX
from tests.data.tiny import is_one_sentence_with
from tests.preparation.trees import PASCAL_COUNTS, make_pascal_tree


def test_facts() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(set(PALETTE)) == len(set(CATEGORY_IDS)) == 60
    assert sorted(CATEGORY_IDS) == list(CATEGORY_IDS)
    assert list(CLASS_NAMES[1:]) == sorted(CLASS_NAMES[1:])  # as the 459 categories are in order of the alphabet
    for category, name in ((0, "background"), (2, "aeroplane"), (284, "person"), (360, "sky"), (458, "wood")):
        assert CLASS_NAMES[CATEGORY_IDS.index(category)] == name
    assert PALETTE[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))  # VOC's colour map
    assert PALETTE[15] == (192, 128, 128)


@pytest.mark.parametrize("split", PASCAL_COUNTS)
@pytest.mark.parametrize("classes", [59, 60])
def test_the_background_counts_or_does_not(tmp_path: Path, split: str, classes: int) -> None:
    dataset = PascalContext(split, root=make_pascal_tree(tmp_path), classes=classes)
    assert len(dataset) == PASCAL_COUNTS[split]
    assert dataset.facts.num_classes == classes
    assert dataset.facts.class_names[-1] == "wood"
    assert dataset.facts.palette[-1] == PALETTE[59]
    seen = set()
    for index, sample in enumerate(dataset.samples):
        raw = dataset[index]
        assert sample.mask is not None
        values = np.asarray(Image.open(sample.mask)).astype(int)
        seen |= set(values.flat)
        expected = values if classes == 60 else np.where(values == 0, IGNORE_INDEX, values - 1)
        np.testing.assert_array_equal(raw.mask, expected)
    assert 0 in seen
    assert len(seen) > 2


def test_missing_data_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        PascalContext("train", root=tmp_path / "nowhere")
    is_one_sentence_with(caught.value, ["nowhere", "python src/prepare.py data=pascal_context"])
    root = make_pascal_tree(tmp_path / "here")
    (root / "val.txt").unlink()
    with pytest.raises(UserError, match=r"val.txt does not exist: run `python src/prepare.py data=pascal_context`"):
        PascalContext("val", root=root)
    next((root / "masks").iterdir()).unlink()
    with pytest.raises(UserError, match="has no mask"):
        PascalContext("train", root=root)
    assert len(PascalContext("train", root=root, strict=False).findings) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"split": "test"}, "no split 'test': choose one of train, val"),
        ({"classes": 33}, "classes=33"),
        ({"thin_classes": ["background"]}, "'background', which is none of the 59 classes"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        PascalContext(**{"split": "train", "root": make_pascal_tree(tmp_path), **arguments})

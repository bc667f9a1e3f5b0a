"""Rows that are appended make the PNG that Pillow reads the same values from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.errors import UserError
from fastfcn.prediction.png_rows import IdRows, file_for, rgb
from fastfcn.prediction.segmentation import as_ids
from fastfcn.types import DataFacts
from tests.prediction.pictures import noise


@pytest.mark.parametrize("classes", [2, 256, 257, 40_000])
@pytest.mark.parametrize("coloured", [False, True])
def test_ids(tmp_path: Path, classes: int, coloured: bool) -> None:
    palette = tuple((index % 256, index // 256, 99) for index in range(classes))
    facts = DataFacts("many", ("x",) * classes, palette)
    labels: Any = np.random.default_rng(0).integers(0, classes, (37, 23))
    ids = as_ids(labels, facts)
    with file_for(tmp_path / "a.png") as file:
        rows = IdRows(file, 23, 37, facts, coloured=coloured)
        for top in range(0, 37, 10):
            rows.write(ids[top : top + 10])
        rows.finish()
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
        if coloured:
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.asarray(palette)[labels])
        else:
            np.testing.assert_array_equal(np.asarray(picture), labels)


def test_rgb(tmp_path: Path) -> None:
    picture = noise(31, 17)
    with file_for(tmp_path / "a.png") as file:
        rows = rgb(file, 17, 31)
        rows.write(picture[:30])
        rows.write(picture[30:])
        rows.finish()
    with Image.open(tmp_path / "a.png") as found:
        np.testing.assert_array_equal(np.asarray(found), picture)


def test_a_fault_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with file_for(tmp_path / "a.png") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="cannot be written"), file_for(Path("/proc/none/a.png")):
        pass

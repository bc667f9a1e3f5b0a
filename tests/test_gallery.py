from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.gallery import CLASSES_SHOWN, KeepExtremes, draw_confusion, rows_of
from fastfcn.inference import Direct
from fastfcn.types import IGNORE_INDEX, Batch, DataFacts
from tests.scripts import call
from tests.toy import trainer

FACTS = DataFacts("toy", ("grass", "roof"), ((10, 200, 30), (250, 20, 60)))


def batches(count: int = 8) -> list[Batch]:
    """Image number i is of value i / 8; its mask is half grass, half roof, the last image's ignored."""
    mask = (torch.arange(16) < 8).long().expand(2, 16, 16).clone()
    made = []
    for start in range(0, count, 2):
        image = torch.stack([torch.full((3, 16, 16), (start + i) / count) for i in range(2)])
        here = mask.clone()
        if start + 2 == count:
            here[1] = IGNORE_INDEX
        made.append(Batch(image=image, mask=here, name=[f"image_{start}", f"image_{start + 1}"]))
    return made


def right_below(limit: float) -> torch.nn.Module:
    """A model that is right in all columns of images darker than a limit, and in the fewer the brighter they are."""

    class Columns(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            truth = (torch.arange(16) < 8).float().expand(len(image), 16, 16)
            wrong = torch.arange(16) < 16 * (image.mean(dim=(1, 2, 3), keepdim=False) - limit).clamp(min=0)[:, None]
            roof = torch.where(wrong[:, None, :], 1 - truth, truth)
            return torch.stack([1 - roof, roof], dim=1)

    return Columns()


def kept(**how: Any) -> list[str]:
    models = [right_below(0.25), right_below(0.5)]
    given = {"inference": Direct(whole=True), "device": torch.device("cpu"), **how}
    return [row.name for row in rows_of(models, batches(), **given)]


def test_which_images_are_chosen() -> None:
    assert kept(pick="worst", count=2) == ["image_6", "image_5"]  # of the last nothing is labelled
    assert kept(pick="best", count=3) == ["image_0", "image_1", "image_2"]
    assert kept(pick="best", count=3, candidates=3) == ["image_0", "image_1", "image_2"]
    assert set(kept(pick="differ", count=3)) == {"image_4", "image_5", "image_6"}
    assert kept(names=["image_5", "image_2"]) == ["image_5", "image_2"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"pick": "nicest"}, "pick=nicest: choose one of differ, worst, best"),
        ({"count": 0}, "count=0"),
        ({"names": ["image_1", "nobody"]}, "images=nobody"),
    ],
)
def test_what_cannot_be_chosen(how: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        kept(**how)


def test_extremes_of_a_test_run(tmp_path: Path) -> None:
    callback = KeepExtremes(tmp_path, FACTS, count=2)
    model = right_below(0.25)
    for batch in batches():
        outputs = {"prediction": model(batch["image"]).argmax(1)}
        callback.on_test_batch_end(None, None, outputs, batch, 0)  # type: ignore[arg-type]
    assert [row.name for row in callback._kept["worst"]] == ["image_6", "image_5"]
    assert [row.name for row in callback._kept["best"]] == ["image_0", "image_1"]
    callback.on_test_end(trainer(tmp_path), None)  # type: ignore[arg-type]
    [along, _] = callback._kept["boundaries"]
    assert along.name == "image_6"
    assert set(np.unique(along.example.truth[:, :4])) == {IGNORE_INDEX}  # far from the contour in the middle
    assert set(np.unique(along.example.truth[:, 7:9])) == {0, 1}
    for kind in ("worst", "best", "boundaries"):
        with Image.open(tmp_path / f"{kind}.png") as file:
            assert file.width > 3 * 256


@pytest.mark.parametrize("classes", [2, 150])
def test_confusions_are_drawn(classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = np.diag(rng.integers(100, 1000, classes)) + rng.integers(0, 30, (classes, classes))
    matrix[0] = 0  # a class that is not labelled
    names = tuple(f"class number {index}" for index in range(classes))
    draw_confusion(matrix, DataFacts("many", names, ((0, 0, 0),) * classes), tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as file:
        assert file.height < 100 * (4 + 0.3 * CLASSES_SHOWN)
        assert len(file.convert("RGB").getcolors(1 << 20) or []) > 3


@pytest.mark.slow
def test_the_script(best: Path, last: Path, tmp_path: Path) -> None:
    page = tmp_path / "out/page.png"
    done = call("predict.py", f"figure={page}", f"checkpoints=[{best},{last}]", "names=[best,last]", "count=2").check()
    assert f"picture: {page}" in done.out
    assert "images:  scenes/test/" in done.out
    with Image.open(page) as file:
        assert file.width > 4 * 256
    named = ("images=[scenes/test/00001]", "data.split=test", "inference=slide")
    assert "images:  scenes/test/00001\n" in call("predict.py", f"figure={page}", f"checkpoints=[{last}]", *named).out
    sentence = call("predict.py", f"figure={page}", f"checkpoints=[{best},{last}]", "names=[a,a]").sentence()
    assert "a name of its own" in sentence
    assert "checkpoints is empty" in call("predict.py", f"figure={page}", "checkpoints=[]", "data=scenes").sentence()

from __future__ import annotations

import errno
import functools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fastfcn import submission
from fastfcn.data.ade20k import ADE20K
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError
from fastfcn.module import SegmentationModule
from fastfcn.types import IMAGENET_MEAN, IMAGENET_STD, DataFacts, SegmentationOutput
from tests.data.tiny import is_one_sentence_with
from tests.preparation import trees
from tests.toy import trainer

FACTS = DataFacts("channels", ("red", "green", "blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


class Brightest(nn.Module):
    """Predicts the channel that is brightest after normalising: what each pixel's class is, the image tells."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> SegmentationOutput:
        return SegmentationOutput(image * self.weight)


def module(facts: DataFacts = FACTS) -> SegmentationModule:
    return SegmentationModule(model=Brightest(), facts=facts)  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return trees.make_ade20k_tree(tmp_path / "tree", counts={"train": 1, "val": 1, "test": 3})


def data(tree: Path, **options: Any) -> SegmentationDataModule:
    dataset = functools.partial(ADE20K, root=tree)
    return SegmentationDataModule(dataset, split="test", batch_size=2, crop_size=32, base_size=32, **options)


def test_one_png_an_image_and_their_zip(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out/predictions"
    archive = submission.write(trainer(tmp_path), module(), data(tree), folder=folder)
    assert archive == tmp_path / "out/predictions.zip"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions", "predictions.zip"]
    names = [f"ADE_test_{number:08d}" for number in (1, 2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png" for name in names]
    for name in names:
        with Image.open(folder / f"{name}.png") as file, Image.open(tree / f"release_test/testing/{name}.jpg") as image:
            assert file.mode == "L"
            pixels = np.asarray(image, dtype=np.float32) / 255
            classes = ((pixels - IMAGENET_MEAN) / IMAGENET_STD).argmax(axis=2)
            assert (np.asarray(file) == classes + 1).mean() > 0.999  # but for ties in the last bit
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == [f"{name}.png" for name in names]
        assert zipped.read(f"{names[0]}.png") == (folder / f"{names[0]}.png").read_bytes()
    again = submission.write(trainer(tmp_path), module(), data(tree), folder=tmp_path / "again")
    assert again is not None
    assert again.read_bytes() == archive.read_bytes()


def test_nothing_is_written_over(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.zip").write_text("mine")
    with pytest.raises(UserError) as caught:
        submission.write(trainer(tmp_path), module(), data(tree), folder=tmp_path / "taken")
    is_one_sentence_with(caught.value, ["taken.zip is there already", "submission="])
    assert (tmp_path / "taken.zip").read_text() == "mine"
    assert not (tmp_path / "taken").exists()


def test_an_image_that_cannot_be_read_is_not_skipped(tree: Path, tmp_path: Path) -> None:
    (tree / "release_test/testing/ADE_test_00000002.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"ADE_test_00000002\.jpg cannot be read"):
        submission.write(trainer(tmp_path), module(), data(tree, on_bad_sample="skip"), folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.zip").exists()
    (tmp_path / "out.unfinished/old.png").write_bytes(b"left behind")
    (tree / "release_test/testing/ADE_test_00000002.jpg").write_bytes(trees.jpeg(np.random.default_rng(0), 40, 50))
    submission.write(trainer(tmp_path), module(), data(tree), folder=tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_full_disk(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writing is in the background, its failure is not."""

    def fails(image: Image.Image, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fails)
        with pytest.raises(UserError) as caught:
            submission.write(trainer(tmp_path), module(), data(tree), folder=tmp_path / "out")
    is_one_sentence_with(caught.value, ["ADE_test_0000000", "cannot be written (No space left on device)"])
    assert not list((tmp_path / "out.unfinished").iterdir())
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.zip").exists()


def test_classes_that_do_not_fit(tree: Path, tmp_path: Path) -> None:
    many = DataFacts("many", tuple(map(str, range(256))), ((0, 0, 0),) * 256)
    with pytest.raises(UserError, match="256 classes do not fit into 8 bits"):
        submission.write(trainer(tmp_path), module(many), data(tree), folder=tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, ["ADE_test_00000002.png is missing"]),
        (np.ones((40, 49), np.uint8), ["ADE_test_00000002.png is 49 x 40", "its image 50 x 40"]),
        (np.ones((40, 50, 3), np.uint8), ["ADE_test_00000002.png is 50 x 40 pixels of kind RGB"]),
        (np.zeros((40, 50), np.uint8), ["ADE_test_00000002.png holds values outside of 1 to 3"]),
        (np.full((40, 50), 4, np.uint8), ["ADE_test_00000002.png holds values outside of 1 to 3"]),
    ],
)
def test_a_wrong_prediction_is_found(tree: Path, tmp_path: Path, values: np.ndarray | None, words: list[str]) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    for number in (1, 2, 3):
        Image.fromarray(np.ones((40, 50), np.uint8)).save(folder / f"ADE_test_{number:08d}.png")
    assert len(submission.check(folder, data(tree), num_classes=3)) == 3
    (folder / "ADE_test_00000002.png").unlink()
    if values is not None:
        Image.fromarray(values).save(folder / "ADE_test_00000002.png")
    with pytest.raises(UserError) as caught:
        submission.check(folder, data(tree), num_classes=3)
    is_one_sentence_with(caught.value, words)


def test_names_with_folders(tmp_path: Path) -> None:
    dataset = functools.partial(Scenes, size=64, counts={"test": 2})
    datamodule = SegmentationDataModule(dataset, batch_size=2, crop_size=64, base_size=64)
    archive = submission.write(trainer(tmp_path), module(), datamodule, folder=tmp_path / "out")
    assert archive is not None
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == ["scenes/test/00000.png", "scenes/test/00001.png"]

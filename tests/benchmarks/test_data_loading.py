from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn.benchmarks import data_loading, material
from fastfcn.benchmarks.bench import Bench
from fastfcn.benchmarks.original import Albumentations, Original
from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError

SMALL = {"images": 4, "batch_size": 2, "base_size": 40, "crop_size": 32, "warmup": 0, "repeats": 1}


def test_the_arms_run_and_leave_their_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    out = tmp_path / "deep" / "figures.json"
    result = data_loading.run(**SMALL, out=out)  # type: ignore[arg-type]
    kept = json.loads(out.read_text())
    assert kept["images_per_second"] == result["images_per_second"]
    arms = [
        getattr(data_loading, name) for name in ("ORIGINAL", "ALBUMENTATIONS", "OURS", "OURS_NORMALISED", "DECODING")
    ]
    assert list(result["images_per_second"]) == arms
    assert result["ratio_to_original"][data_loading.ORIGINAL] == 1
    rate = result["images_per_second"]
    for arm in arms:
        assert result["milliseconds_per_image"][arm]["median"] == pytest.approx(1000 / rate[arm], rel=0.02)
    assert kept["provenance"]["hardware"]["cpu"]
    assert "ours: bytes for the device" in capsys.readouterr().out
    assert (torch.get_num_threads(), cv2.getNumThreads()) == threads


def test_the_pictures_are_of_vocs_size_and_weight(tmp_path: Path) -> None:
    dataset = material.write(tmp_path, count=4)
    assert len(dataset) == 4
    assert dataset[0].image.shape == (375, 500, 3)
    assert set(np.unique(dataset[0].mask)) <= set(range(11))
    assert 40e3 < np.mean([sample.image.stat().st_size for sample in dataset.samples]) < 130e3


@pytest.mark.parametrize("rival", [Original, Albumentations])
def test_a_rival_gives_what_a_training_needs(tmp_path: Path, rival: type[Original] | type[Albumentations]) -> None:
    dataset = material.write(tmp_path, count=2)
    arm = rival(dataset, base_size=60, crop_size=48)
    for index in range(2):
        image, mask = arm[index]
        assert image.shape == (3, 48, 48)
        assert image.dtype == torch.float32
        assert -2.2 < image.min() < image.max() < 2.7
        assert mask.shape == (48, 48)
        assert mask.dtype == torch.int64


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.images=4 is less than a batch"):
        data_loading.run(images=4)
    with pytest.raises(UserError, match="task=data measures on files"):
        data_loading.run(bench=Bench(open_split=lambda split: Scenes(split, size=64, counts={split: 16})), images=16)
    material.write(tmp_path, count=2)
    from fastfcn.data.folder import FolderDataset

    with pytest.raises(UserError, match=r"task\.images=16 is more than the 2 images of the train split"):
        data_loading.run(bench=Bench(open_split=lambda split: FolderDataset(split, root=tmp_path)), images=16)


def test_a_photograph_s_weight_comes_from_its_texture(tmp_path: Path) -> None:
    material.write(tmp_path, count=1)
    image = np.asarray(Image.open(tmp_path / "images/train/0000.jpg").convert("L")).astype(float)
    assert np.abs(np.diff(image, axis=1)).mean() > 3  # grey levels between neighbours

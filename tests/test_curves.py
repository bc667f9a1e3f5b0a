import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn import curves
from fastfcn.errors import UserError


def test_curves_draw_the_metrics_of_the_csv_logger(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("epoch,step,train/loss,val/mIoU,val/pixAcc\n0,0,2.0,,\n0,1,,0.1,0.3\n1,2,1.0,,\n1,3,,0.2,0.5\n")
    curves.draw(metrics, tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png"))
    assert picture.ndim == 3
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 100).any(axis=(0,))
    assert blue[: blue.size // 2].any()  # the loss on the left, pixAcc on the right
    assert blue[blue.size // 2 :].any()


def test_a_run_without_validation_has_no_legend_to_draw(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("epoch,step,train/loss\n0,0,2.0\n1,2,1.0\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves.draw(metrics, tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png"))
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 100).any(axis=(0,))
    assert blue[: blue.size // 2].any()
    assert not blue[blue.size // 2 :].any()


@pytest.mark.parametrize("content", [None, "epoch,step,other\n0,0,1\n"])
def test_curves_of_nothing_are_a_mistake_that_is_told(tmp_path: Path, content: str | None) -> None:
    metrics = tmp_path / "metrics.csv"
    if content is not None:
        metrics.write_text(content)
    with pytest.raises(UserError, match=r"metrics\.csv"):
        curves.draw(metrics, tmp_path / "curves.png")


def test_values_of_an_epoch_are_averaged_and_others_left_out(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("epoch,step,train/loss,val/mIoU\n1,3,,0.2\n0,0,2.0,\n0,1,4.0,\n,2,9.0,\n1,2,1.0,\n")
    assert curves.by_epoch(metrics, "train/loss") == {0: 3.0, 1: 1.0}
    assert curves.by_epoch(metrics, "val/mIoU") == {1: 0.2}
    assert curves.by_epoch(metrics, "val/pixAcc") == {}


def test_a_run_that_went_on_has_its_epochs_before(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    (tmp_path / "metrics.1.csv").write_text("epoch,val/mIoU\n0,0.1\n1,0.2\n2,0.9\n")
    (tmp_path / "metrics.2.csv").write_text("epoch,val/mIoU\n2,0.3\n")
    metrics.write_text("epoch,val/mIoU,test/mIoU\n3,,0.5\n")  # nothing was left to train, only to test
    assert curves.by_epoch(metrics, "val/mIoU") == {0: 0.1, 1: 0.2, 2: 0.3}
    curves.draw(metrics, tmp_path / "curves.png")
    metrics.write_text("epoch,val/mIoU\n0,0.7\n")  # began anew
    assert curves.by_epoch(metrics, "val/mIoU") == {0: 0.7}

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

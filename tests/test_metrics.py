from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from fastfcn.contours import square_max
from fastfcn.metrics import BoundaryIoU, SegmentationMetrics, confusion
from fastfcn.types import IGNORE_INDEX
from tests.official import GOLDENS


def test_agrees_with_the_official_metrics() -> None:
    golden = np.load(GOLDENS / "metrics.npz")
    metrics = SegmentationMetrics(11)
    for logits, target in zip(golden["logits"], golden["target"], strict=True):  # image by image: the data set counts
        metrics.update(torch.from_numpy(logits)[None], torch.from_numpy(target)[None])
    matrix, result = metrics.confusion, metrics.compute()
    assert int(matrix.trace()) == golden["correct"]
    assert int(matrix.sum()) == golden["labeled"]
    assert matrix.diagonal().tolist() == golden["inter"].tolist()
    assert (matrix.sum(0) + matrix.sum(1) - matrix.diagonal()).tolist() == golden["union"].tolist()
    assert float(result.pix_acc) == pytest.approx(float(golden["pixacc"]), abs=1e-12)
    assert float(result.miou) == pytest.approx(float(golden["miou"]), abs=1e-12)


def test_agrees_with_torchmetrics() -> None:
    torch.manual_seed(0)
    prediction, mask = torch.randint(0, 6, (2, 3, 17, 19)), torch.randint(-1, 6, (2, 3, 17, 19))
    ours = SegmentationMetrics(6)
    theirs = MulticlassJaccardIndex(6, average="none", ignore_index=IGNORE_INDEX)
    for p, m in zip(prediction, mask, strict=True):
        ours.update(p, m)
        theirs.update(p, m)
    torch.testing.assert_close(ours.compute().iou.float(), theirs.compute())


def test_absent_class_is_left_out_and_a_predicted_one_counts_as_zero() -> None:
    metrics = SegmentationMetrics(4)
    metrics.update(torch.tensor([[[0, 0, 2, 3]]]), torch.tensor([[[0, 0, 0, IGNORE_INDEX]]]))
    result = metrics.compute()
    assert [float(result.iou[0]), float(result.iou[2])] == [pytest.approx(2 / 3), 0.0]
    assert math.isnan(result.iou[1])  # in neither
    assert math.isnan(result.iou[3])  # predicted at an ignored pixel only: counts nowhere
    assert float(result.miou) == pytest.approx(1 / 3)
    assert float(result.score) == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_counts_stay_exact_where_floats_do_not() -> None:
    matrix = torch.tensor([[2**24 + 1, 0], [0, 1]])
    metrics = SegmentationMetrics(2)
    metrics.confusion += matrix
    metrics.update(torch.zeros(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1, dtype=torch.long))
    assert metrics.confusion[0, 0] == 2**24 + 2
    assert metrics.confusion.dtype == torch.int64


def test_confusion_counts_every_labelled_pixel_once() -> None:
    """At 847 classes too; whatever stands at an ignored pixel counts nowhere."""
    torch.manual_seed(0)
    for classes in (2, 19, 150, 847):
        prediction, mask = torch.randint(0, classes, (2, 33, 35)), torch.randint(-1, classes, (2, 33, 35))
        prediction[mask == IGNORE_INDEX] = torch.tensor([-7, classes, 2**31 - 1, 255]).repeat(999)[: (mask == -1).sum()]
        expected = np.zeros((classes, classes), np.int64)
        known = (mask != IGNORE_INDEX).numpy()
        np.add.at(expected, (mask.numpy()[known], prediction.numpy()[known]), 1)
        before = prediction.clone(), mask.clone()
        for dtype in (torch.int64, torch.int32, torch.int16):
            if dtype == torch.int64:
                assert np.array_equal(confusion(prediction, mask, classes).numpy(), expected)
            else:
                clean = prediction.clamp(0, classes - 1).to(dtype)
                assert np.array_equal(confusion(clean, mask.to(dtype), classes).numpy(), expected)
        assert torch.equal(prediction, before[0])
        assert torch.equal(mask, before[1])


@pytest.mark.parametrize("wrong", [-1, 3, 4, 300])
def test_a_labelled_pixel_whose_prediction_is_no_class_is_an_error(wrong: int) -> None:
    with pytest.raises(ValueError, match="none of the 3 classes"):
        confusion(torch.tensor([0, wrong]), torch.tensor([0, 1]), 3)


@pytest.mark.parametrize("wrong", [-2, 3])
def test_a_label_that_is_no_class_is_an_error(wrong: int) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        confusion(torch.tensor([0, 0]), torch.tensor([0, wrong]), 3)


def test_confusion_has_labels_in_rows() -> None:
    assert confusion(torch.tensor([1, 1, 0]), torch.tensor([0, 1, -1]), 2).tolist() == [[0, 1], [0, 1]]


def slow_boundary_iou(prediction: Tensor, mask: Tensor, num_classes: int, distance: int) -> list[float]:
    """Pixel by pixel, from the definition."""
    inter, union = np.zeros(num_classes), np.zeros(num_classes)
    for p, m in zip(prediction.numpy(), mask.numpy(), strict=True):
        h, w = m.shape

        def band(labels: np.ndarray, y: int, x: int, c: int, h: int = h, w: int = w) -> bool:
            if labels[y, x] != c:
                return False
            for dy in range(-distance, distance + 1):
                for dx in range(-distance, distance + 1):
                    yy, xx = y + dy, x + dx
                    if not (0 <= yy < h and 0 <= xx < w) or labels[yy, xx] != c:
                        return True
            return False

        for c in range(num_classes):
            for y in range(h):
                for x in range(w):
                    if m[y, x] == IGNORE_INDEX:
                        continue
                    t, q = band(m, y, x, c), band(p, y, x, c)
                    inter[c] += t and q
                    union[c] += t or q
    return [float(i / u) if u else math.nan for i, u in zip(inter, union, strict=True)]


def test_boundary_iou_by_its_definition() -> None:
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, 4, 5)).repeat_interleave(5, 1).repeat_interleave(5, 2)
    mask[0, :3, :3] = IGNORE_INDEX
    prediction = mask.clamp(min=0).roll(2, dims=2)
    metric = BoundaryIoU(4, dilation_ratio=0.06)
    metric.update(prediction, mask)
    expected = slow_boundary_iou(prediction, mask, 4, distance=2)
    np.testing.assert_allclose(metric.compute().numpy(), expected)


def test_boundary_iou_of_a_perfect_prediction_is_one() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[:, 20:40, 20:40] = 1
    metric = BoundaryIoU(2)
    metric.update(mask, mask)
    assert metric.compute().tolist() == [1.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), distance=st.integers(1, 25))
def test_the_largest_of_a_neighbourhood(height: int, width: int, distance: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    around = F.pad(x, (distance,) * 4, value=-math.inf)
    assert torch.equal(square_max(x, distance), F.max_pool2d(around, 2 * distance + 1, stride=1))


def test_boundary_iou_of_a_large_picture_takes_seconds() -> None:
    """4,000 x 3,000 pixels: with a window of 201 x 201 around each pixel it took hours."""
    mask = torch.zeros(1, 3000, 4000, dtype=torch.long)
    mask[:, :, 2000:] = 1
    metric = BoundaryIoU(2)
    started = time.process_time()
    metric.update(mask.roll(10, 2), mask)
    assert time.process_time() - started < 120
    assert 0.5 < float(metric.compute()[0]) < 1

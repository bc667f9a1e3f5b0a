from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from fastfcn.counts import CountImages, ImageCounts
from fastfcn.data import pascal_context
from fastfcn.errors import UserError
from fastfcn.evaluation_report import paper_60
from fastfcn.metrics import scores
from fastfcn.statistics import compare, figures, intervals, miou_with_background
from fastfcn.types import IGNORE_INDEX, DataFacts

CLASSES = 4
NAMES = ("pixAcc", "mIoU", "score", "mean_accuracy", "FWIoU")


def counted(predictions: np.ndarray, masks: np.ndarray, **how: Any) -> ImageCounts:
    """As a test run would count them."""
    result = counting(predictions, masks, **how).result
    assert result is not None
    return result


def counting(predictions: np.ndarray, masks: np.ndarray, *, batch: int = 3, num_classes: int = CLASSES) -> CountImages:
    """The callback after a test run."""
    callback = CountImages(num_classes)
    for start in range(0, len(masks), batch):
        chosen = slice(start, start + batch)
        names = [f"image_{index:03d}" for index in range(len(masks))[chosen]]
        mask, prediction = torch.from_numpy(masks[chosen]), torch.from_numpy(predictions[chosen])
        given = {"image": mask, "mask": mask, "name": names}
        callback.on_test_batch_end(None, None, {"prediction": prediction}, given, 0)  # type: ignore[arg-type]
    callback.on_test_end(None, None)  # type: ignore[arg-type]
    return callback


def noise(images: int, *, right: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masks with ignored pixels, and predictions of which a part is right."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(IGNORE_INDEX, CLASSES, (images, 12, 10))
    guesses = rng.integers(0, CLASSES, masks.shape)
    return np.where((rng.random(masks.shape) < right) & (masks >= 0), masks, guesses), masks


def slowly(predictions: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """The definitions, pixel by pixel."""
    pairs = [(int(p), int(m)) for p, m in zip(predictions.ravel(), masks.ravel(), strict=True) if m != IGNORE_INDEX]
    ious, accuracies, weighted = [], [], 0.0
    for index in range(CLASSES):
        both = sum(p == index and m == index for p, m in pairs)
        either = sum(p == index or m == index for p, m in pairs)
        labelled = sum(m == index for _, m in pairs)
        if either:
            ious.append(both / either)
            weighted += labelled * both / either
        if labelled:
            accuracies.append(both / labelled)
    pix_acc, miou = sum(p == m for p, m in pairs) / len(pairs), sum(ious) / len(ious)
    return {
        "pixAcc": pix_acc, "mIoU": miou, "score": (pix_acc + miou) / 2,
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "FWIoU": weighted / len(pairs),
    }  # fmt: skip


@pytest.mark.parametrize("absent", [None, 2])
def test_figures_are_their_definitions(absent: int | None) -> None:
    predictions, masks = noise(5, right=0.6)
    if absent is not None:  # from labels and predictions
        predictions, masks = (np.where(values == absent, 0, values) for values in (predictions, masks))
    counts = counted(predictions, masks)
    found = figures(*(part.sum(0).astype(float) for part in (counts.right, counts.labelled, counts.predicted)))
    for name, value in slowly(predictions, masks).items():
        assert float(found[name]) == pytest.approx(value, abs=1e-12), name
    ours = scores(torch.from_numpy(counts.matrix))
    assert float(ours.miou) == pytest.approx(float(found["mIoU"]), abs=1e-12)


def test_figures_are_those_of_torchmetrics() -> None:
    predictions, masks = noise(5, right=0.6)
    counts = counted(predictions, masks)
    found = figures(*(part.sum(0).astype(float) for part in (counts.right, counts.labelled, counts.predicted)))
    given = torch.from_numpy(predictions), torch.from_numpy(masks)
    for name, metric in {
        "mIoU": MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE_INDEX, average="macro"),
        "FWIoU": MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE_INDEX, average="weighted"),
        "mean_accuracy": MulticlassAccuracy(CLASSES, ignore_index=IGNORE_INDEX, average="macro"),
        "pixAcc": MulticlassAccuracy(CLASSES, ignore_index=IGNORE_INDEX, average="micro"),
    }.items():
        assert float(found[name]) == pytest.approx(float(metric(*given)), abs=1e-6), name


def test_counts_survive_their_file() -> None:
    counts = counted(*noise(7, right=0.5))
    again = ImageCounts.from_dict(counts.as_dict(), counts.matrix.tolist())
    assert again.names == counts.names
    for ours, theirs in zip(again.__dict__.values(), counts.__dict__.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of many samples of images from one source, about 95% give an interval that holds the source's own figure."""
    truth = slowly(*noise(400, right=0.6, seed=1000))["pixAcc"]
    held = 0
    for seed in range(60):
        found = intervals(counted(*noise(20, right=0.6, seed=seed)), ["pixAcc"], draws=400)["pixAcc"]
        assert found.low < found.value < found.high
        held += found.low <= truth <= found.high
    assert held >= 50  # binomial(60, 0.95) is below 51 once in 300


def test_a_real_difference_is_seen_and_none_is_not() -> None:
    worse, masks = noise(30, right=0.55)
    rng = np.random.default_rng(5)
    better = np.where((rng.random(masks.shape) < 0.15) & (masks >= 0), masks, worse)
    found = compare(counted(worse, masks), counted(better, masks), NAMES)
    for name in NAMES:
        assert found[name].difference.low > 0, name
        assert found[name].p < 0.01, name
        assert found[name].difference.value == pytest.approx(found[name].second - found[name].first)
    back = compare(counted(better, masks), counted(worse, masks), ["mIoU"])["mIoU"]
    assert back.difference.value == -found["mIoU"].difference.value
    itself = compare(counted(worse, masks), counted(worse, masks), ["mIoU"])["mIoU"]
    assert (itself.difference, itself.p) == ((0, 0, 0), 1)


def test_the_order_of_the_images_does_not_matter() -> None:
    predictions, masks = noise(8, right=0.5)
    counts = counted(predictions, masks)
    images = dict(reversed(counts.as_dict().items()))
    turned = ImageCounts.from_dict(images, counts.matrix.tolist())
    assert compare(counts, turned, ["mIoU"])["mIoU"].difference == (0, 0, 0)


def test_other_images_or_labels_are_refused(tmp_path: Path) -> None:
    predictions, masks = noise(8, right=0.5)
    counts = counted(predictions, masks)
    with pytest.raises(UserError, match="not of the same images, image_007"):
        compare(counts, counted(predictions[:7], masks[:7]), ["mIoU"])
    with pytest.raises(UserError, match="do not count the same labels"):
        compare(counts, counted(predictions, masks[::-1].copy()), ["mIoU"])


def test_the_papers_sixty_classes() -> None:
    """Its own two pairs of figures (Table 3, section 4.3)."""
    facts = DataFacts("pascal_context", pascal_context.CLASS_NAMES[1:], pascal_context.PALETTE[1:])
    assert [round(100 * (paper_60(facts, miou) or 0), 1) for miou in (0.5403, 0.5210)] == [53.1, 51.2]
    sixty = DataFacts("pascal_context", pascal_context.CLASS_NAMES, pascal_context.PALETTE)
    assert paper_60(sixty, 0.5) is None


@pytest.mark.parametrize("background", [True, False])
def test_sixty_classes_truly(background: bool) -> None:
    """Unlabelled pixels as a class of their own, pixel by pixel: beside the paper's rule, not equal to it."""
    predictions, masks = noise(5, right=0.6)
    if not background:
        masks = np.where(masks == IGNORE_INDEX, 0, masks)
    callback = counting(predictions, masks)
    assert callback.result is not None
    truth = np.where(masks == IGNORE_INDEX, CLASSES, masks)
    ious = []
    for index in range(CLASSES + background):
        pairs = [(p == index, t == index) for p, t in zip(predictions.ravel(), truth.ravel(), strict=True)]
        ious.append(sum(p and t for p, t in pairs) / sum(p or t for p, t in pairs))
    assert miou_with_background(callback.result, callback.elsewhere) == pytest.approx(sum(ious) / len(ious), abs=1e-12)
    by_the_rule = slowly(predictions, masks)["mIoU"] * CLASSES / (CLASSES + 1)
    assert not background or sum(ious) / len(ious) < by_the_rule - 0.01

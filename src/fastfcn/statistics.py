"""The figures of an evaluation, how sure they are, and whether two evaluations differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastfcn.counts import ImageCounts
from fastfcn.errors import UserError

FloatArray = npt.NDArray[np.float64]

#: Of the intervals.
LEVEL = 0.95

#: How often the images are drawn anew.
DRAWS = 2000

#: Resamples that are worked on together.
CHUNK = 100


class Interval(NamedTuple):
    """A figure with a confidence interval, fractions of 1."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much the second of two evaluations is better than the first.

    Attributes:
        first: The first's figure, a fraction of 1.
        second: The second's.
        difference: Second less first, with its interval.
        p: Probability of a difference at least as far from 0 if there were none, two-sided.
    """

    first: float
    second: float
    difference: Interval
    p: float


def figures(right: FloatArray, labelled: FloatArray, predicted: FloatArray) -> dict[str, FloatArray]:
    """Every figure that needs no more than three counts of each class.

    Args:
        right: (..., C) pixels of a class that are predicted as it.
        labelled: (..., C) pixels of a class.
        predicted: (..., C) labelled pixels that are predicted as a class.

    Returns:
        By name, (...): `pixAcc`; `mean_accuracy`, over the classes that are labelled; `mIoU`, over the classes that
        occur in labels or predictions; `FWIoU`, weighted by how frequent each is (Long et al. 2015); `score`,
        ADE20K's, the mean of pixAcc and mIoU. And `IoU` and `accuracy`, (..., C), NaN for an absent class.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = right / (labelled + predicted - right), right / labelled
        pixels = labelled.sum(-1)
        pix_acc = right.sum(-1) / pixels
        weighted = np.where(labelled > 0, labelled * iou, 0).sum(-1) / pixels
    miou = _mean_of_known(iou)
    return {
        "pixAcc": pix_acc,
        "mean_accuracy": _mean_of_known(accuracy),
        "mIoU": miou,
        "FWIoU": weighted,
        "score": (pix_acc + miou) / 2,
        "IoU": iou,
        "accuracy": accuracy,
    }


def miou_with_background(counts: ImageCounts, elsewhere: npt.NDArray[np.int64]) -> float:
    """The mIoU where the pixels without a label are one class more, which the model never predicts.

    So the true figure on Pascal Context's 60 classes of a model of 59: what it says of the background is wrong for the
    class that it says, too. The paper's rule, 59/60 of the figure on 59, leaves that out.

    Args:
        counts: Of the images.
        elsewhere: (C,) unlabelled pixels that are predicted as a class.
    """
    right, labelled, predicted = (part.sum(axis=0) for part in (counts.right, counts.labelled, counts.predicted))
    sums = [np.append(right, 0), np.append(labelled, elsewhere.sum()), np.append(predicted + elsewhere, 0)]
    return float(figures(*(part.astype(np.float64) for part in sums))["mIoU"])


def _mean_of_known(values: FloatArray) -> FloatArray:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: FloatArray = np.where(known, values, 0).sum(-1) / known.sum(-1)
    return mean


def intervals(counts: ImageCounts, names: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
    """Confidence intervals of figures by the percentile bootstrap over images.

    Args:
        counts: Of each image.
        names: Of the figures.
        draws: How often as many images are drawn with replacement.
        seed: Of the draws.
    """
    values = _of_all(counts)
    drawn = _bootstrap([counts], names, draws=draws, seed=seed)
    return {name: _interval(float(values[name]), drawn[name][0]) for name in names}


def compare(
    first: ImageCounts, second: ImageCounts, names: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Difference]:
    """A paired test of two evaluations of the same images: both are drawn anew together.

    Args:
        first: Of one model.
        second: Of the other.
        names: Of the figures.
        draws: How often as many images are drawn with replacement.
        seed: Of the draws.

    Raises:
        UserError: They are not of the same images with the same labels.
    """
    second = _same_order(first, second)
    ours, theirs = _of_all(first), _of_all(second)
    drawn = _bootstrap([first, second], names, draws=draws, seed=seed)
    found = {}
    for name in names:
        differences = drawn[name][1] - drawn[name][0]
        # One is added to both, so that no finite number of draws gives a probability of 0.
        tail = min((differences <= 0).sum(), (differences >= 0).sum())
        value = float(theirs[name] - ours[name])
        p = min(1.0, 2 * float(tail + 1) / (draws + 1))
        found[name] = Difference(float(ours[name]), float(theirs[name]), _interval(value, differences), p)
    return found


def _of_all(counts: ImageCounts) -> Mapping[str, FloatArray]:
    sums = (part.sum(axis=0).astype(np.float64) for part in (counts.right, counts.labelled, counts.predicted))
    return figures(*sums)


def _interval(value: float, drawn: FloatArray) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def _bootstrap(
    evaluations: Sequence[ImageCounts], names: Sequence[str], *, draws: int, seed: int
) -> dict[str, FloatArray]:
    """By name, (evaluations, draws): figures of images drawn with replacement, the same ones for each evaluation."""
    rng = np.random.default_rng(seed)
    size = len(evaluations[0].names)
    found = {name: np.empty((len(evaluations), draws)) for name in names}
    parts = [[part.astype(np.float64) for part in (e.right, e.labelled, e.predicted)] for e in evaluations]
    for start in range(0, draws, CHUNK):
        stop = min(start + CHUNK, draws)
        times = rng.multinomial(size, np.full(size, 1 / size), size=stop - start).astype(np.float64)  # (chunk, N)
        for index, (right, labelled, predicted) in enumerate(parts):
            values = figures(times @ right, times @ labelled, times @ predicted)
            for name in names:
                found[name][index, start:stop] = values[name]
    return found


def _same_order(first: ImageCounts, second: ImageCounts) -> ImageCounts:
    """The second evaluation with its images in the order of the first."""
    if set(first.names) != set(second.names):
        other = min(set(first.names) ^ set(second.names))
        raise UserError(
            f"The evaluations are not of the same images, {other} is in one of them alone: evaluate both on the same "
            "split of the same data."
        )
    place = {name: index for index, name in enumerate(second.names)}
    order = [place[name] for name in first.names]
    same = ImageCounts(
        first.names, second.right[order], second.labelled[order], second.predicted[order], second.matrix
    )  # fmt: skip
    if first.labelled.shape != same.labelled.shape or (first.labelled != same.labelled).any():
        raise UserError(
            "The evaluations do not count the same labels of each image: use the same protocol, with whole images or "
            "windows (centre crops of other sizes show other pixels), and the same classes."
        )
    return same

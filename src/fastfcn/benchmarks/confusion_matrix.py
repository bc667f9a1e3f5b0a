"""The confusion matrix by itself: the histograms of the field's mIoU code against ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fastfcn.benchmarks.arms import Arm, compare_values, in_both_ways
from fastfcn.benchmarks.plain_metrics import Histograms, three_histograms, three_histograms_by_numpy
from fastfcn.exporting.comparison import Agreement
from fastfcn.metrics import confusion

Count = Callable[[Tensor, Tensor, int], Histograms]


def ours(prediction: Tensor, mask: Tensor, num_classes: int) -> Histograms:
    """The three histograms out of one confusion matrix."""
    matrix = confusion(prediction, mask, num_classes)
    return Histograms(matrix.diagonal(), matrix.sum(0), matrix.sum(1))


#: The rows of the table by name, the reference first.
COUNTS: dict[str, Count] = {
    "plain": three_histograms,
    "plain, by NumPy": three_histograms_by_numpy,
    "ours": ours,
}


def confusion_arms(mask: Tensor, *, num_classes: int, seed: int) -> list[Arm]:
    """Counting a batch of predictions (B, H, W) of which four in five are right."""
    generator = torch.Generator().manual_seed(seed)
    guess = torch.randint(0, num_classes, mask.shape, generator=generator).to(mask.device)
    wrong = (torch.rand(mask.shape, generator=generator) < 0.2).to(mask.device)
    prediction = torch.where(wrong | (mask < 0), guess, mask)

    def check(count: Count) -> Agreement:
        pairs = zip(count(prediction, mask, num_classes), three_histograms(prediction, mask, num_classes), strict=True)
        return max((compare_values(a, b, tolerance=0.0) for a, b in pairs), key=lambda each: each.error)

    return in_both_ways(
        Arm(
            name=name,
            call=partial(count, prediction, mask, num_classes),
            check=partial(check, count),
            items=len(mask),
        )
        for name, count in COUNTS.items()
    )

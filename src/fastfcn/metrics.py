"""Exact metrics of a whole data set, from one confusion matrix of integers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from fastfcn.contours import CONTOUR_RATIO, contour_distance, square_max
from fastfcn.types import IGNORE_INDEX

#: Pixels times classes whose contours are found at a time: as floats, 64 MB.
PIXELS = 1 << 24


class Scores(NamedTuple):
    """What a confusion matrix says; fractions of 1, float64.

    Attributes:
        pix_acc: labelled pixels that are right.
        miou: mean of ``iou`` over the classes that occur in labels or predictions.
        score: (pixAcc + mIoU) / 2, ADE20K's final score and what the best checkpoint is chosen by.
        iou: (C,) intersection over union, NaN for a class absent from labels and predictions.
        confusion: (C, C) what they were made of, pixels by label (rows) and prediction (columns).
    """

    pix_acc: Tensor
    miou: Tensor
    score: Tensor
    iou: Tensor
    confusion: Tensor


def confusion(prediction: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Count pixels by label (rows) and prediction (columns): (..., H, W) twice -> (C, C) int64.

    Pixels labelled IGNORE_INDEX count nowhere, whatever is predicted there.
    """
    # A row more for what is ignored (-1), and a column more on either side for what is no class and may stand there: so
    # no pixel need be picked out first, which costs more than all else and makes the host wait for a GPU. The number of
    # a bin fits 32 bits, and half the bytes are read twice as fast.
    rows, columns = num_classes + 1, num_classes + 2
    bins = prediction.to(torch.int32, copy=True).clamp_(-1, num_classes)
    bins = bins.add_(mask.to(torch.int32), alpha=columns).add_(columns + 1).flatten()
    if bins.is_cuda:  # bincount waits for its largest bin's number
        counts = torch.zeros(rows * columns, dtype=torch.int64, device=bins.device)
        counts.scatter_add_(0, bins.long(), counts.new_ones(1).expand_as(bins))
    else:
        counts = torch.bincount(bins, minlength=rows * columns)
    matrix = counts.view(rows, columns)[1:]
    if not bins.is_cuda and (matrix[:, 0].any() or matrix[:, -1].any()):
        raise ValueError(f"a prediction at a labelled pixel is none of the {num_classes} classes")
    return matrix[:, 1:-1]


def scores(matrix: Tensor) -> Scores:
    """Pixel accuracy and IoU of a confusion matrix (C, C), rows labels and columns predictions.

    A class that occurs neither in labels nor in predictions is left out of the mean, never counted as 0 or 1; one that
    is predicted though no pixel has it counts as 0, as in the original.
    """
    counts = matrix.double()
    right = counts.diagonal()
    iou = right / (counts.sum(0) + counts.sum(1) - right)  # 0 / 0 = NaN for an absent class
    pix_acc, miou = right.sum() / counts.sum(), iou.nanmean()
    return Scores(pix_acc, miou, (pix_acc + miou) / 2, iou, matrix)


class SegmentationMetrics(Metric):
    """pixAcc and mIoU over everything seen since the last reset, the same on one process and on many.

    Args:
        num_classes: C.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Count a batch.

        Args:
            prediction: (B, H, W) class ids, or (B, C, H, W) logits.
            mask: (B, H, W) class ids, IGNORE_INDEX where nothing is known.
        """
        if prediction.ndim == mask.ndim + 1:
            prediction = prediction.argmax(1)
        self.confusion += confusion(prediction, mask, self.num_classes)

    def compute(self) -> Scores:
        """The scores so far."""
        return scores(self.confusion)


class MeanOfSteps(MeanMetric):
    """The mean of a loss over an epoch and all processes, of which nobody waits for a value before the epoch's end."""

    _forward_cache: Any  # what Lightning logs of a metric at a step

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")  # any other strategy reads each value

    def add(self, value: Tensor, *, images: int, shown: Tensor) -> None:
        """Count a step's value by its number of images; ``shown`` is what a log of the step itself has.

        One that is not finite counts nowhere: its step is passed over, or the training ends with it.
        """
        self.update(value, images)
        self._forward_cache = shown

    def update(self, value: Tensor, weight: int) -> None:  # type: ignore[override]
        """As torchmetrics has it, which leaves the weights out where it does not look for NaN."""
        finite = torch.isfinite(value)
        self.mean_value = self.mean_value + torch.where(finite, value, 0).to(self.mean_value.dtype) * weight
        self.weight = self.weight + finite * weight

    def resume(self, total: Tensor, images: Tensor) -> None:
        """Go on from the sum of value x images and the number of images that an epoch had come to."""
        self.mean_value, self.weight = total, images
        self._update_count = 1  # nothing of the default state is left
        self._computed = None


class BoundaryIoU(Metric):
    """Boundary IoU (Cheng et al., CVPR 2021): the IoU of the bands along the contours, over the whole data set.

    The band of a class in a label map is the part of its region within ``d`` pixels of the region's contour. Contours
    at the picture's border count, as in the authors' definition. Ignored pixels count nowhere.

    Args:
        num_classes: C.
        dilation_ratio: d relative to the picture's diagonal, at least one pixel; 0.02 in the paper.
    """

    full_state_update = False
    intersection: Tensor
    union: Tensor

    def __init__(self, num_classes: int, *, dilation_ratio: float = CONTOUR_RATIO) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dilation_ratio = dilation_ratio
        for name in ("intersection", "union"):
            self.add_state(name, default=torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Count a batch of class ids (B, H, W) against masks (B, H, W), the classes that occur, a few at a time."""
        distance = contour_distance(*mask.shape[-2:], ratio=self.dilation_ratio)
        valid = (mask != IGNORE_INDEX)[:, None]
        occurring = torch.cat([mask[mask != IGNORE_INDEX], prediction.flatten()]).unique()
        for classes in occurring.split(max(1, PIXELS // mask.numel())):
            truth = self._band(mask, classes, distance) & valid
            ours = self._band(prediction, classes, distance) & valid
            self.intersection[classes] += (truth & ours).sum(dim=(0, 2, 3))
            self.union[classes] += (truth | ours).sum(dim=(0, 2, 3))

    def compute(self) -> Tensor:
        """(C,) float64 boundary IoU, NaN for a class absent from labels and predictions."""
        return self.intersection.double() / self.union.double()

    def _band(self, labels: Tensor, classes: Tensor, distance: int) -> Tensor:
        """(B, H, W) and (K,) -> (B, K, H, W) bool: regions less their erosion; the border is outside."""
        region = labels[:, None] == classes[:, None, None]
        outside = (~region).half() if labels.is_cuda else (~region).float()
        outside = F.pad(outside, (1, 1, 1, 1), value=1.0)
        eroded = square_max(outside, distance)[:, :, 1:-1, 1:-1] == 0
        return region & ~eroded

"""Exact metrics of a whole data set, from one confusion matrix of integers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from fastfcn.contours import CONTOUR_RATIO, contour_distance
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
    """

    pix_acc: Tensor
    miou: Tensor
    score: Tensor
    iou: Tensor


def confusion(prediction: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Count pixels by label (rows) and prediction (columns): (..., H, W) twice -> (C, C) int64.

    Pixels labelled IGNORE_INDEX count nowhere, whatever is predicted there.
    """
    valid = mask != IGNORE_INDEX
    cells = mask[valid].long() * num_classes + prediction[valid].long()
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def scores(matrix: Tensor) -> Scores:
    """Pixel accuracy and IoU of a confusion matrix (C, C), rows labels and columns predictions.

    A class that occurs neither in labels nor in predictions is left out of the mean, never counted as 0 or 1; one that
    is predicted though no pixel has it counts as 0, as in the original.
    """
    matrix = matrix.double()
    right = matrix.diagonal()
    iou = right / (matrix.sum(0) + matrix.sum(1) - right)  # 0 / 0 = NaN for an absent class
    pix_acc, miou = right.sum() / matrix.sum(), iou.nanmean()
    return Scores(pix_acc, miou, (pix_acc + miou) / 2, iou)


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
        outside = F.pad(outside, (distance,) * 4, value=1.0)
        eroded = F.max_pool2d(outside, 2 * distance + 1, stride=1) == 0
        return region & ~eroded

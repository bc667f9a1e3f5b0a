"""The plain formulation of the metrics: three histograms of a batch, as the field's mIoU code counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastfcn.types import IGNORE_INDEX


class Histograms(NamedTuple):
    """Pixels of each class, (C,) int64.

    Attributes:
        intersection: predicted as what they are.
        prediction: predicted as the class, among the labelled ones.
        label: of the class.
    """

    intersection: Tensor
    prediction: Tensor
    label: Tensor


def three_histograms(prediction: Tensor, mask: Tensor, num_classes: int) -> Histograms:
    """Count a batch by `torch.histc`, which knows floats alone, on the host.

    Args:
        prediction: (B, H, W) class ids.
        mask: (B, H, W) class ids, IGNORE_INDEX where nothing is known.
        num_classes: C.
    """
    prediction, mask = prediction.cpu(), mask.cpu()
    labelled = mask != IGNORE_INDEX
    predicted, label = prediction[labelled], mask[labelled]
    intersection = predicted[predicted == label]
    counts = (
        torch.histc(ids.float(), bins=num_classes, min=0, max=num_classes - 1).long()
        for ids in (intersection, predicted, label)
    )
    return Histograms(*counts)


def three_histograms_by_numpy(prediction: Tensor, mask: Tensor, num_classes: int) -> Histograms:
    """The same by `numpy.histogram`, as the code of the paper's time counts: classes from 1 on, 0 for what is ignored.

    Args:
        prediction: (B, H, W) class ids.
        mask: (B, H, W) class ids, IGNORE_INDEX where nothing is known.
        num_classes: C.
    """
    predicted = prediction.cpu().numpy().astype(np.int64) + 1
    label = mask.cpu().numpy().astype(np.int64)
    label = np.where(label == IGNORE_INDEX, -1, label) + 1
    predicted = predicted * (label > 0).astype(predicted.dtype)
    intersection = predicted * (predicted == label)
    counts = (
        np.histogram(ids, bins=num_classes, range=(1, num_classes))[0] for ids in (intersection, predicted, label)
    )
    return Histograms(*(torch.from_numpy(count.astype(np.int64)) for count in counts))

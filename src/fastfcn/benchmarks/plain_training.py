"""The plain formulation of the training loss: on logits resized to the image's size, image by image where it counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.types import IGNORE_INDEX, SegmentationOutput


def resized_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, C, h, w), resized to the mask's size (B, H, W), over the labelled pixels."""
    full = F.interpolate(logits, size=mask.shape[-2:], mode="bilinear", align_corners=True)
    return F.cross_entropy(full, mask, ignore_index=IGNORE_INDEX)


def exact_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """The same of logits in float64, by the resize's weights as float32 has them."""
    sides = zip(logits.shape[-2:], mask.shape[-2:], strict=True)
    rows, columns = (
        F.interpolate(
            torch.eye(have, device=logits.device)[None, None], (have, want), mode="bilinear", align_corners=True
        )[0, 0].to(logits.dtype)
        for have, want in sides
    )
    return F.cross_entropy(rows.T @ logits @ columns, mask, ignore_index=IGNORE_INDEX)


def presence_target(mask: Tensor, num_classes: int) -> Tensor:
    """Which classes occur in each image, (B, num_classes), by a loop over the images and a histogram of each."""
    target = torch.zeros(len(mask), num_classes, device=mask.device)
    for index in range(len(mask)):
        histogram = torch.histc(mask[index].float(), bins=num_classes, min=0, max=num_classes - 1)
        target[index] = (histogram > 0).float()
    return target


def plain_loss(output: SegmentationOutput, mask: Tensor, *, aux_weight: float, presence_weight: float) -> Tensor:
    """Cross entropy, the auxiliary one, and the binary cross entropy of presence, weighted and added up."""
    loss = F.cross_entropy(output.logits, mask, ignore_index=IGNORE_INDEX)
    if output.aux is not None:
        loss = loss + aux_weight * F.cross_entropy(output.aux, mask, ignore_index=IGNORE_INDEX)
    if output.presence is not None:
        target = presence_target(mask, output.presence.shape[1])
        loss = loss + presence_weight * F.binary_cross_entropy_with_logits(output.presence, target)
    return loss

"""The loss: cross entropy, the auxiliary head's cross entropy, and EncNet's presence (SE) loss."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.resized_cross_entropy import resized_cross_entropy
from fastfcn.types import IGNORE_INDEX, SegmentationOutput


def presence_target(mask: Tensor, num_classes: int) -> Tensor:
    """Which classes occur in each image, on the mask's device.

    Args:
        mask: (B, H, W) class ids; a negative label counts for nothing.
        num_classes: C.

    Returns:
        (B, C) float32 of 0 and 1.
    """
    # One bin more takes the ignored pixels and is cut off again.
    labels = torch.where(mask < 0, num_classes, mask).flatten(1)
    target = torch.zeros(mask.shape[0], num_classes + 1, device=mask.device)
    return target.scatter_(1, labels, 1.0)[:, :num_classes]


def cross_entropy(logits: Tensor, mask: Tensor, *, labelled: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the labelled pixels of the batch; 0 where the batch has none.

    Args:
        logits: (B, C, H, W), or of another size: they are resized to the mask bilinearly, as the model would, but
            without a copy of that size.
        mask: (B, H, W) int64, IGNORE_INDEX where nothing is known.
        labelled: what the sum is divided by; None is the number of labelled pixels of this batch.
    """
    if logits.shape[-2:] == mask.shape[-2:]:
        # Channels-last logits make this several times slower than the copy costs; the sum is finite without labels.
        total = F.cross_entropy(logits.contiguous(), mask, ignore_index=IGNORE_INDEX, reduction="sum")
    else:
        total = resized_cross_entropy(logits, mask)
    return total / ((mask != IGNORE_INDEX).sum().clamp(min=1) if labelled is None else labelled)


def labelled_share(mask: Tensor) -> Tensor:
    """Labelled pixels of the global batch over the number of processes.

    DDP takes the mean of the processes' gradients. With sums divided by this number that is the gradient of the mean
    over all labelled pixels of the global batch, as one process would have it; a mean of each process's own mean would
    give a pixel more weight the fewer labelled ones its process has.
    """
    count = (mask != IGNORE_INDEX).sum()
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


class SegmentationLoss(nn.Module):
    """The training loss as a dictionary of its weighted terms; their sum is the loss.

    Which terms occur depends on what the model gives: ``ce`` always, ``aux`` with an auxiliary head, ``presence`` with
    the Encoding head.

    Args:
        aux_weight: of the auxiliary cross entropy; 0.2, or 0.4 in the scripts of 2020 for PSP and ASPP.
        presence_weight: of the presence term (the SE loss of EncNet).
    """

    def __init__(self, *, aux_weight: float = 0.2, presence_weight: float = 0.2) -> None:
        super().__init__()
        self.aux_weight = aux_weight
        self.presence_weight = presence_weight

    def forward(self, output: SegmentationOutput, mask: Tensor, *, whole: Tensor | None = None) -> dict[str, Tensor]:
        """Compare a model's output, of the image's size or smaller, with the mask (B, H, W) int64; terms are scalars.

        Of a part of a batch, where ``whole`` is the mask of all of it, the terms are its share: the parts' sum is that
        of the batch.

        In a training on several processes each must call it, and the mean of the terms over the processes is that of
        the global batch. In evaluation mode, where the processes may have different numbers of batches, it looks at
        its own batch alone.
        """
        whole = mask if whole is None else whole
        labelled = labelled_share(whole) if self.training else (whole != IGNORE_INDEX).sum().clamp(min=1)
        terms = {"ce": cross_entropy(output.logits, mask, labelled=labelled)}
        if output.aux is not None:
            terms["aux"] = self.aux_weight * cross_entropy(output.aux, mask, labelled=labelled)
        if output.presence is not None:
            target = presence_target(mask, output.presence.shape[1])
            bce = F.binary_cross_entropy_with_logits(output.presence.float(), target)
            terms["presence"] = self.presence_weight * (len(mask) / len(whole)) * bce
        return terms

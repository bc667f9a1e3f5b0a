"""The loss: cross entropy, the auxiliary head's cross entropy, and EncNet's presence (SE) loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.resized_cross_entropy import pixel_cross_entropy, resized_cross_entropy
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
    return _share((mask != IGNORE_INDEX).sum())


def _share(count: Tensor) -> Tensor:
    """The sum of the processes' counts, 1 where it is 0, over their number; every process must call it."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return count.where(count > 0, 1)
    dist.all_reduce(count)
    return count.where(count > 0, 1) / dist.get_world_size()


class SegmentationLoss(nn.Module):
    """The training loss as a dictionary of its weighted terms; their sum is the loss.

    Which terms occur depends on what the model gives: ``ce`` always, ``aux`` with an auxiliary head, ``presence`` with
    the Encoding head. For skewed data ``ce`` and ``aux`` may weight their pixels: with w the weight of a pixel's class
    and p the probability that it is given,

    - class weights: ``sum w (-log p) / sum w``, over the labelled pixels of the batch,
    - focal loss (Lin et al. 2017): ``sum w (1 - p)^gamma (-log p) / sum w``,
    - online hard examples (bootstrapped cross entropy, Wu et al. 2016): of each image the pixels with p below the
      threshold, and at least those of the lowest p; the mean over them, then over the images.

    Hard pixels are chosen image by image, where mmsegmentation chooses among those of a process's batch, so that the
    loss depends neither on the number of processes nor on the parts in which a batch is made.

    Args:
        aux_weight: of the auxiliary cross entropy; 0.2, or 0.4 in the scripts of 2020 for PSP and ASPP.
        presence_weight: of the presence term (the SE loss of EncNet).
        class_weights: one per class in their order; or how they follow from the training set, ``inverse_frequency`` or
            ``median_frequency`` (`fastfcn.class_weights`), which is settled when the training starts.
        gamma: of the focal loss; 0 is cross entropy.
        ohem_threshold: p below which a pixel is hard; None: all pixels count.
        ohem_min_kept: how many pixels of an image count at least; None: a sixteenth of its labelled ones.

    Raises:
        UserError: a value makes no sense.
    """

    def __init__(
        self,
        *,
        aux_weight: float = 0.2,
        presence_weight: float = 0.2,
        class_weights: Sequence[float] | Literal["inverse_frequency", "median_frequency"] | None = None,
        gamma: float = 0.0,
        ohem_threshold: float | None = None,
        ohem_min_kept: int | None = None,
    ) -> None:
        super().__init__()
        self.aux_weight = aux_weight
        self.presence_weight = presence_weight
        #: A list, a tensor's values once it is settled; the name of a rule before.
        self.class_weights = (
            class_weights if class_weights is None or isinstance(class_weights, str) else list(class_weights)
        )
        if ohem_threshold is not None and not 0 < ohem_threshold <= 1:
            raise UserError(f"loss.ohem_threshold={ohem_threshold} is a probability above 0 and at most 1, or null.")
        if ohem_min_kept is not None and ohem_threshold is None:
            raise UserError(f"loss.ohem_min_kept={ohem_min_kept} goes with a threshold: give loss.ohem_threshold=0.7.")
        self.gamma = gamma
        self.ohem_threshold = ohem_threshold
        self.ohem_min_kept = ohem_min_kept

    def forward(self, output: SegmentationOutput, mask: Tensor, *, whole: Tensor | None = None) -> dict[str, Tensor]:
        """Compare a model's output, of the image's size or smaller, with the mask (B, H, W) int64; terms are scalars.

        Of a part of a batch, where ``whole`` is the mask of all of it, the terms are its share: the parts' sum is that
        of the batch.

        In a training on several processes each must call it, and the mean of the terms over the processes is that of
        the global batch. In evaluation mode, where the processes may have different numbers of batches, it looks at
        its own batch alone.
        """
        whole = mask if whole is None else whole
        of = self._of_pixels(mask, whole, output.logits)
        terms = {"ce": of(output.logits)}
        if output.aux is not None:
            terms["aux"] = self.aux_weight * of(output.aux)
        if output.presence is not None:
            target = presence_target(mask, output.presence.shape[1])
            bce = F.binary_cross_entropy_with_logits(output.presence.float(), target)
            terms["presence"] = self.presence_weight * (len(mask) / len(whole)) * bce
        return terms

    def _of_pixels(self, mask: Tensor, whole: Tensor, like: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the term of some logits."""
        if self.class_weights is None and not self.gamma and self.ohem_threshold is None:
            labelled = labelled_share(whole) if self.training else (whole != IGNORE_INDEX).sum().clamp(min=1)
            return lambda logits: cross_entropy(logits, mask, labelled=labelled)
        weights, count = self._weights(mask, like), self._count(whole, like)
        total = _share(count) if self.training else count.where(count > 0, 1)  # without labels the sum is 0
        return lambda logits: (
            weighted_cross_entropy(logits, mask, self._chosen(logits, mask, weights), gamma=self.gamma) / total
        )

    def _weights(self, mask: Tensor, like: Tensor) -> Tensor:
        """Of the pixels, (B, H, W): those of their classes, 0 where ignored."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        known = mask != IGNORE_INDEX
        if self.class_weights is None:
            return known.to(dtype)
        if isinstance(self.class_weights, str):
            raise UserError(
                f"loss.class_weights={self.class_weights} is counted when a training starts: give the weights here."
            )
        if len(self.class_weights) != like.shape[1]:
            raise UserError(
                f"loss.class_weights has {len(self.class_weights)} numbers for {like.shape[1]} classes: give one for "
                "each."
            )
        table = torch.tensor([*self.class_weights, 0.0], dtype=dtype, device=mask.device)  # -1 is the last
        return table[mask.where(known, -1)]

    def _count(self, whole: Tensor, like: Tensor) -> Tensor:
        """What the sum over a batch is divided by: its weight, or its images that have labels."""
        weights = self._weights(whole, like)
        return weights.sum() if self.ohem_threshold is None else (weights > 0).flatten(1).any(1).to(weights.dtype).sum()

    def _chosen(self, logits: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        """The weights of the pixels that count; of hard pixels those of an image sum to 1."""
        if self.ohem_threshold is None:
            return weights
        counted = mask.where(weights > 0, IGNORE_INDEX)  # a class of no weight is never learned: it would stay hard
        hard = hard_pixels(logits, counted, threshold=self.ohem_threshold, min_kept=self.ohem_min_kept)
        kept = weights * hard
        return kept / kept.flatten(1).sum(1).clamp(min=torch.finfo(kept.dtype).tiny).view(-1, 1, 1)


def weighted_cross_entropy(logits: Tensor, mask: Tensor, weights: Tensor, *, gamma: float = 0.0) -> Tensor:
    """The sum of ``weight (1 - p)^gamma (-log p)`` over the pixels, p being the probability of a pixel's class.

    Args:
        logits: (B, C, H, W), or of another size: they are resized to the mask, as `cross_entropy` does.
        mask: (B, H, W) int64, IGNORE_INDEX where nothing is known.
        weights: (B, H, W), 0 where ignored.
        gamma: of the focal loss.
    """
    if logits.shape[-2:] != mask.shape[-2:]:
        return resized_cross_entropy(logits, mask, weights=weights, gamma=gamma)
    entropy = F.cross_entropy(logits.contiguous(), mask, ignore_index=IGNORE_INDEX, reduction="none")
    if gamma:
        missed = -torch.expm1(-entropy)
        weights = weights * missed.clamp(min=torch.finfo(missed.dtype).tiny) ** gamma
    return (entropy * weights).sum()


def hard_pixels(logits: Tensor, mask: Tensor, *, threshold: float, min_kept: int | None) -> Tensor:
    """Which pixels of each image are hard: (B, H, W) bool; see `SegmentationLoss`.

    Args:
        logits: (B, C, h, w), of any size.
        mask: (B, H, W) int64; ignored pixels are never hard.
        threshold: of the probability of a pixel's class.
        min_kept: pixels of an image that are hard at least; None: a sixteenth of its labelled ones.
    """
    entropy = pixel_cross_entropy(logits.detach(), mask)
    known = mask != IGNORE_INDEX
    count = known.flatten(1).sum(1)
    least = (count // 16).clamp(min=1) if min_kept is None else torch.full_like(count, min_kept)
    least = least.minimum(count)
    # Without a look at the numbers, for which the host would wait for the device.
    hardest = entropy.where(known, -1.0).flatten(1).sort(1, descending=True).values
    edge = hardest.gather(1, (least - 1).clamp(min=0)[:, None])[:, :, None]
    return known & ((entropy > -math.log(threshold)) | ((entropy >= edge) & (least > 0)[:, None, None]))

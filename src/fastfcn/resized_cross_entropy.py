"""Bilinear resize and cross entropy in one, in strips of rows: no logits of the image's size ever exist as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastfcn.models.layers import full_precision, interpolation
from fastfcn.types import IGNORE_INDEX

#: Logits (numbers, not pixels) of a strip: 2 MB of float32 on a CPU, where it is to stay in the caches, and 64 MB on a
#: GPU, where few large kernels are faster.
CPU_NUMBERS = 1 << 19
GPU_NUMBERS = 1 << 24


def resized_cross_entropy(logits: Tensor, mask: Tensor, *, weights: Tensor | None = None, gamma: float = 0.0) -> Tensor:
    """Summed cross entropy of logits resized bilinearly to the mask, as `resize` does, in float32 at least.

    The loss and its gradient are those of the plain formulation but for the order of sums.

    Args:
        logits: (B, C, h, w), of any size.
        mask: (B, H, W) int64, IGNORE_INDEX where nothing is known.
        weights: (B, H, W) of the pixels; None: all count alike. Ignored ones count nowhere.
        gamma: Of the focal loss, ``-(1 - p)^gamma log p``; 0 is cross entropy.
    """
    differentiate = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _ResizedCrossEntropy.apply(logits, mask, differentiate, weights, gamma)
    return loss


def pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of every pixel, (B, H, W) in float32 at least, 0 where ignored; nothing to differentiate by.

    Args:
        logits: (B, C, h, w), of any size.
        mask: (B, H, W) int64, IGNORE_INDEX where nothing is known.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    pixels = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    with torch.no_grad(), _exact_products(logits):
        for index, strip, resized in _resized_strips(logits, mask):
            labels = mask[index, strip]
            pixels[index, strip] = F.cross_entropy(
                resized.transpose(1, 2).flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
            ).view(labels.shape)
    return pixels


class _ResizedCrossEntropy(torch.autograd.Function):
    """Makes the gradient in the forward pass, while a strip is at hand: nothing large is kept, nothing made twice.

    Bilinear resizing is a matrix product from either side: ``Y_c = R Z_c S``, R (H, h) and S (w, W) with two entries in
    a row of R and in a column of S. The columns of a whole image are resized first, (h, C, w) -> (h, C, W), and of that
    each strip takes the few rows that it lies between. Back it goes by the same matrices transposed.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, mask: Tensor, differentiate: bool, weights: Tensor | None, gamma: float
    ) -> Tensor:
        """The sum over all labelled pixels, a scalar."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        _, classes, height, width = logits.shape
        rows = interpolation(height, mask.shape[-2], like=logits)
        columns = interpolation(width, mask.shape[-1], like=logits)
        total = logits.new_zeros((), dtype=dtype)
        grad = torch.empty_like(logits, dtype=dtype) if differentiate else None
        with _exact_products(logits):
            for index, (image, labels) in enumerate(zip(logits, mask, strict=True)):
                wide = image.to(dtype).transpose(0, 1).reshape(-1, width) @ columns  # (h * C, W)
                of_wide = torch.zeros_like(wide).view(height, -1)
                for above, strip in _strips(height, labels.shape, classes, logits.is_cuda):
                    shares = rows[above, strip]  # (hs, R)
                    resized = (shares.T @ wide.view(height, -1)[above]).view(-1, classes, labels.shape[-1])
                    of_pixels = None if weights is None else weights[index, strip]
                    total += _cross_entropy(resized, labels[strip], of_pixels, gamma, differentiate=differentiate)
                    if differentiate:  # what was the logits is their gradient now
                        of_wide[above].addmm_(shares, resized.flatten(1))
                if grad is not None:
                    grad[index] = (
                        (of_wide.view(-1, of_wide.shape[1] // classes) @ columns.T)
                        .view(height, classes, width)
                        .transpose(0, 1)
                    )
        if grad is not None:
            ctx.save_for_backward(grad)
            ctx.dtype = logits.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor, None, None, None, None]:
        """A factor on what is known already."""
        (grad,) = ctx.saved_tensors
        return (grad * factor).to(ctx.dtype), None, None, None, None


def _cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float, *, differentiate: bool
) -> Tensor:
    """Of a strip (R, C, W) with labels (R, W), the sum; the logits are overwritten, by their gradient if asked for."""
    labels = labels.unsqueeze(1)
    known = labels != IGNORE_INDEX
    counts = known.to(logits.dtype)
    if weights is not None:
        counts = counts * weights.unsqueeze(1)
    labels = labels.where(known, 0)  # any other label that is no class is an error of gather
    logits -= logits.amax(1, keepdim=True)
    right = logits.gather(1, labels)
    total = logits.exp_().sum(1, keepdim=True)
    if gamma:
        loss, counts = _focal(total.log() - right, counts, gamma)
    else:
        loss = ((total.log() - right) * counts).sum()
    if differentiate:
        logits *= counts / total  # softmax, 0 where ignored
        logits.scatter_add_(1, labels, -counts)
    return loss


def _focal(entropy: Tensor, counts: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The sum of the focal loss of pixels, and what the gradients of their cross entropies count.

    With p = exp(-entropy) these are ``counts (1 - p)^gamma entropy`` and its derivative by the entropy,
    ``counts ((1 - p)^gamma + gamma (1 - p)^(gamma - 1) p entropy)``.
    """
    missed = -torch.expm1(-entropy)  # exact where p is all but 1
    missed = missed.clamp(min=torch.finfo(missed.dtype).tiny)  # 0^(gamma - 1) is infinite for a gamma below 1
    factor = missed**gamma
    return (entropy * factor * counts).sum(), counts * (factor + gamma * factor / missed * (1 - missed) * entropy)


def _resized_strips(logits: Tensor, mask: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Image, rows, and their resized logits (R, C, W)."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    _, classes, height, width = logits.shape
    rows = interpolation(height, mask.shape[-2], like=logits)
    columns = interpolation(width, mask.shape[-1], like=logits)
    for index, image in enumerate(logits):
        wide = image.to(dtype).transpose(0, 1).reshape(-1, width) @ columns
        for above, strip in _strips(height, mask.shape[1:], classes, logits.is_cuda):
            flat = rows[above, strip].T @ wide.view(height, -1)[above]
            yield index, strip, flat.view(-1, classes, mask.shape[-1])


def _strips(height: int, size: torch.Size, classes: int, is_cuda: bool) -> Iterator[tuple[slice, slice]]:
    """For each strip of the rows of an image, the rows of the logits that it lies between, and its own."""
    wanted, width = size
    rows = max(1, (GPU_NUMBERS if is_cuda else CPU_NUMBERS) // (classes * width))
    for start in range(0, wanted, rows):
        end = min(wanted, start + rows)
        # However corners are aligned, pixel y lies less than a row, or a step, of the logits from y * height / wanted.
        # A row more than necessary has no weight.
        margin = 3 + height // wanted
        first, last = start * height // wanted - margin, (end - 1) * height // wanted + margin
        yield slice(max(0, first), min(height, last)), slice(start, end)


@contextmanager
def _exact_products(like: Tensor) -> Iterator[None]:
    """Products that round no factor, whatever is allowed elsewhere (TF32, autocast): a resize is not rounded either."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with full_precision(like):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)

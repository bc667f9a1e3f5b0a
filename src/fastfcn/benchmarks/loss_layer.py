"""Resize and cross entropy by themselves, forward and backward: plain against ours, both compared with float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fastfcn.benchmarks.arms import Arm, compare_values, in_both_ways
from fastfcn.benchmarks.plain_training import exact_cross_entropy, resized_cross_entropy
from fastfcn.exporting.comparison import Agreement
from fastfcn.losses import cross_entropy

#: What loss and gradient may differ from those in float64 by, relative to the largest, to be timed.
TOLERANCE = 5e-6

Loss = Callable[[Tensor, Tensor], Tensor]


#: The rows of the table by name, the reference first.
LOSSES: dict[str, Loss] = {"plain": resized_cross_entropy, "ours": cross_entropy}


def loss_arms(mask: Tensor, *, num_classes: int, stride: int, seed: int) -> list[Arm]:
    """Cross entropy on logits that lie at a stride of the mask (B, H, W), and their gradient.

    The reference is plain in float64, by the resize's weights as float32 has them, which both arms share: their own
    rounding moves loss and gradient by some 2e-6 and is not what is compared.
    """
    generator = torch.Generator().manual_seed(seed)
    size = [-(-side // stride) for side in mask.shape[-2:]]
    values = torch.randn(len(mask), num_classes, *size, generator=generator)
    logits = (3 * values).to(mask.device).requires_grad_()
    reference: list[Tensor] = []

    def once(loss: Loss, of: Tensor = logits) -> list[Tensor]:
        value = loss(of, mask)
        return [value, *torch.autograd.grad(value, of)]

    def check(loss: Loss) -> Agreement:
        if not reference:
            exact = logits.detach().double().requires_grad_()
            reference.extend(each.detach() for each in once(exact_cross_entropy, exact))
        found = [compare_values(a, b, tolerance=TOLERANCE) for a, b in zip(once(loss), reference, strict=True)]
        return max(found, key=lambda each: each.error)

    return in_both_ways(
        Arm(
            name=name,
            call=partial(once, loss),
            check=partial(check, loss),
            items=len(mask),
        )
        for name, loss in LOSSES.items()
    )

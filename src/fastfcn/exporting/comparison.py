"""Whether another form of a model gives what the model gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastfcn.exporting.request import Precision

#: How far apart outputs may be, relative to the largest of the reference; where both compute in float32.
TOLERANCE = 1e-4

#: Part of the pixels on which the class must be the same; where one computes in fewer bits.
AGREEING = 0.995

#: The same of exported files. Eight bits move more pixels near the borders of things, whatever is done about it.
LEAST: Mapping[Precision, float] = {"fp32": 0.0, "fp16": AGREEING, "int8": 0.95}


class Agreement(NamedTuple):
    """How an output compares with the reference's.

    Attributes:
        error: largest difference over the largest magnitude of the reference.
        same: part of the pixels whose class is the same; None where the outputs are no logits of pixels.
        fine: whether it is within what the precision allows.
    """

    error: float
    same: float | None
    fine: bool


def compare_logits(ours: Tensor, reference: Tensor, *, precision: str) -> Agreement:
    """Compare logits (B, C, H, W) with the reference's.

    In float32 the values decide; in TF32 and fewer bits, whose rounding is larger, the classes.
    """
    ours, reference = ours.detach().float().cpu(), reference.detach().float().cpu()
    error = float((ours - reference).abs().max() / reference.abs().max().clamp(min=1e-30))
    same = float((ours.argmax(1) == reference.argmax(1)).float().mean())
    return Agreement(error, same, error <= TOLERANCE if precision == "float32" else same >= AGREEING)


def compare_export(ours: Tensor, reference: Tensor, *, precision: Precision, least: float | None = None) -> Agreement:
    """Compare what an exported file gives with the logits of eager torch.

    Class ids have no values to compare; their error is by how much the reference's logit of the chosen class lies below
    its largest, for where two classes are as likely either is right.

    Args:
        ours: Logits (B, C, H, W), or class ids (B, H, W).
        reference: Logits (B, C, H, W).
        precision: In `fp32` the values decide.
        least: Part of the pixels whose class must be the same; None: as `LEAST` says.
    """
    reference, best = reference.detach().float(), reference.argmax(1)
    largest = reference.abs().max().clamp(min=1e-30)
    ids = ours if ours.ndim == 3 else ours.argmax(1)
    if ours.shape not in (reference.shape, best.shape):
        return Agreement(torch.inf, 0.0, False)
    if ours.ndim == 3:
        difference = reference.amax(1) - reference.gather(1, ids.long()[:, None])[:, 0]
    else:
        difference = ours.float() - reference
    error = float(difference.abs().max() / largest)
    same = float((ids == best).float().mean())
    least = LEAST[precision] if least is None else least
    return Agreement(error, same, same >= least and (precision != "fp32" or error <= TOLERANCE))

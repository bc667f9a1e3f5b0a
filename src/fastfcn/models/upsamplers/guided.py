"""The guided filter (He et al., TPAMI 2013) on features: joint upsampling, which section 3.3.1 begins with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.layers import full_precision, resize
from fastfcn.models.upsamplers.top_down import TopDown


def linear_coefficients(guide: Tensor, target: Tensor, *, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    """In each window the line through the target over the guide, and its mean over the windows of each position.

    ``a_k = (mean(I p) - mean(I) mean(p)) / (var(I) + eps)``, ``b_k = mean(p) - a_k mean(I)`` over the window k (He et
    al., equations 5 and 6: the minimum of ``sum_i (a_k I_i + b_k - p_i)^2 + eps a_k^2``), then their means over all
    windows that hold a position (equation 8). Channel by channel; windows end at the edge.

    Args:
        guide: I, (B, C, h, w).
        target: p, the same shape.
        radius: r, windows are 2r + 1 on a side.
        eps: draws a towards 0.

    Returns:
        Means of a and b, each (B, C, h, w).
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    mean_i, mean_p = mean(guide), mean(target)
    variance = mean(guide * guide) - mean_i * mean_i
    a = (mean(guide * target) - mean_i * mean_p) / (variance.clamp(min=0) + eps)
    b = mean_p - a * mean_i
    return mean(a), mean(b)


class GuidedFilter(nn.Module):
    """The operator: a line from guide to target is fitted at the coarse resolution and applied at the fine one.

    This is equation 1 of JPU's paper, ``y_h = f(x_h)`` with f the best of a class on ``(x_l, y_l)``, and the class is
    the guided filter's, linear in each window. The coefficients are resized bilinearly (He and Sun 2015, arXiv
    1505.00996, "Fast Guided Filter"). Computed in float32 at least, for variances are differences of large numbers.

    Args:
        channels: of both maps; each is guided by its own.
        radius: of the windows, in coarse positions.
        eps: of the fit.

    Raises:
        UserError: no window, or nothing to divide by where the guide is flat.
    """

    def __init__(self, channels: int, *, radius: int, eps: float) -> None:
        super().__init__()
        if radius < 1 or eps <= 0:
            raise UserError(
                f"upsample.radius={radius}, upsample.eps={eps}: give a radius of at least 1 and eps above 0."
            )
        self.radius = radius
        self.eps = eps

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Target (B, C, h, w), guide (B, C, H, W) -> (B, C, H, W)."""
        with full_precision(coarse):
            dtype = torch.promote_types(coarse.dtype, torch.float32)
            target, guide = coarse.to(dtype), fine.to(dtype)
            a, b = linear_coefficients(
                resize(guide, target.shape[-2:]), target, radius=self.radius, eps=self.eps
            )  # fmt: skip
            y = resize(a, guide.shape[-2:]) * guide + resize(b, guide.shape[-2:])
        return y.to(coarse.dtype)


class Guided(TopDown):
    """The guided filter in the place of nearest neighbour in the top-down pathway; the lateral map is the guide.

    The lateral convolution is then the learned guidance map of a deep guided filter (Wu et al., CVPR 2018, arXiv
    1803.05619).

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
        radius: r, 1: the smallest window, as where Wu et al. fit at a low resolution.
        eps: 0.01, as in Wu et al.'s segmentation network.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 256, radius: int = 1, eps: float = 0.01) -> None:
        super().__init__(in_channels, width=width, operator=partial(GuidedFilter, radius=radius, eps=eps))

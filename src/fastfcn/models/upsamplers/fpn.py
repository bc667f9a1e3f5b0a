"""Feature Pyramid Network (Lin et al., CVPR 2017) as the rival upsampler of Table 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.models.upsamplers.top_down import TopDown


class Nearest(nn.Module):
    """Nearest neighbour, Lin et al.'s own enlargement: each position is copied."""

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w), (B, C, H, W) -> (B, C, H, W)."""
        return F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


class FPN(TopDown):
    """The top-down pathway as it was published; the released code of FastFCN has no FPN arm.

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 256) -> None:
        super().__init__(in_channels, width=width, operator=lambda _: Nearest())

"""JPU_X, the pyramid version that the authors released after the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.layers import SeparableConv, conv_bn_relu, resize
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid

#: Groups of the GroupNorm in the separable arms, as in the released code.
GROUPS = 32


class JointUpsampling(nn.Module):
    """One joint upsampling problem: a low-resolution map with one high-resolution map as its guidance (equation 4).

    Args:
        low_channels: channels of the map to enlarge.
        high_channels: channels of the guidance.
        width: channels of each embedded map and of each arm; a multiple of 32. The output has ``width`` times one more
            than the number of dilations.
        dilations: of the parallel separable convolutions.
    """

    def __init__(self, low_channels: int, high_channels: int, *, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.embed_low = conv_bn_relu(low_channels, width, 3)
        self.embed_high = conv_bn_relu(high_channels, width, 3)
        self.arms = nn.ModuleList(
            nn.Sequential(
                SeparableConv(2 * width, width, dilation=dilation, norm=nn.GroupNorm(GROUPS, 2 * width)),
                nn.GroupNorm(GROUPS, width),
                nn.ReLU(inplace=True),
            )
            for dilation in dilations
        )
        self.out_channels = width * (1 + len(dilations))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """(B, C_low, h, w), (B, C_high, H, W) -> (B, out_channels, H, W)."""
        low = resize(self.embed_low(low), high.shape[-2:])
        both = torch.cat([low, self.embed_high(high)], dim=1)
        return torch.cat([low, *(arm(both) for arm in self.arms)], dim=1)


class JPUX(Upsampler):
    """Two joint upsampling problems in turn: c4 with c3 as guidance, then c5 with the result as guidance.

    Args:
        in_channels: channels of c2 to c5.
        width: width of the second problem; the first has half of it.
        dilations: of the first problem's separable arms; the second has them doubled.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 512, dilations: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        if not dilations:
            raise UserError("upsample.dilations=[]: give at least one dilation.")
        c2, c3, c4, c5 = in_channels
        self.upsample4 = JointUpsampling(c4, c3, width=width // 2, dilations=dilations)
        self.upsample5 = JointUpsampling(
            c5, self.upsample4.out_channels, width=width, dilations=[2 * d for d in dilations]
        )
        self.out_channels = (c2, c3, c4, self.upsample5.out_channels)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """c3, c4, c5 -> y, (B, 4 * width, H/8, W/8) with three dilations."""
        _, c3, c4, c5 = pyramid
        return pyramid._replace(c5=self.upsample5(c5, self.upsample4(c4, c3)))

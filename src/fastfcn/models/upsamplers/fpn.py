"""Feature Pyramid Network (Lin et al., CVPR 2017) as the rival upsampler of Table 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import nn

from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid


class FPN(Upsampler):
    """Top-down pathway with lateral connections over c5, c4, c3; gives the finest merged map, P3 at stride 8.

    The released code of FastFCN has no FPN arm, so this follows Lin et al., section 3: 1x1 lateral convolutions to one
    width, the coarser map enlarged by nearest neighbour and added, a 3x3 convolution on the merged map against
    aliasing; no non-linearity. Only P3 is read behind it, so P4 and P5 have no output convolution of their own.

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 256) -> None:
        super().__init__()
        c2, c3, c4, c5 = in_channels
        self.lateral3 = nn.Conv2d(c3, width, 1)
        self.lateral4 = nn.Conv2d(c4, width, 1)
        self.lateral5 = nn.Conv2d(c5, width, 1)
        self.smooth3 = nn.Conv2d(width, width, 3, padding=1)
        for module in (self.lateral3, self.lateral4, self.lateral5, self.smooth3):
            nn.init.kaiming_uniform_(module.weight, a=1)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.out_channels = (c2, c3, c4, width)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """c3, c4, c5 -> P3, (B, width, H/8, W/8)."""
        _, c3, c4, c5 = pyramid
        m5 = self.lateral5(c5)
        m4 = self.lateral4(c4) + F.interpolate(m5, size=c4.shape[-2:], mode="nearest")
        m3 = self.lateral3(c3) + F.interpolate(m4, size=c3.shape[-2:], mode="nearest")
        return pyramid._replace(c5=self.smooth3(m3))

"""Joint Pyramid Upsampling, the module of the paper (section 3.3.3, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fastfcn.errors import UserError
from fastfcn.models.layers import ALIGN_CORNERS, SeparableConv, conv_bn_relu, resize
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid


class JPU(Upsampler):
    """Approximates the last map of a dilated backbone from c3, c4 and c5 of a plain one.

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every embedded map and of every dilated arm; the output has ``width * len(dilations)``.
        dilations: of the parallel separable convolutions. Dilation 1 relates y_m0 to the rest of y_m, the others learn
            the mapping from y_m0 to y_s (Figure 5).
        align_corners: how c4 and c5 are enlarged: as the paper's code does, or, when false, as mmsegmentation.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        width: int = 512,
        dilations: Sequence[int] = (1, 2, 4, 8),
        align_corners: bool = ALIGN_CORNERS,
    ) -> None:
        super().__init__()
        if not dilations:
            raise UserError("upsample.dilations=[]: give at least one dilation.")
        c2, c3, c4, c5 = in_channels
        self.align_corners = align_corners
        self.embed3 = conv_bn_relu(c3, width, 3)
        self.embed4 = conv_bn_relu(c4, width, 3)
        self.embed5 = conv_bn_relu(c5, width, 3)
        self.arms = nn.ModuleList(
            nn.Sequential(
                SeparableConv(3 * width, width, dilation=dilation, norm=nn.BatchNorm2d(3 * width)),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for dilation in dilations
        )
        self.out_channels = (c2, c3, c4, width * len(dilations))

    def extra_repr(self) -> str:
        """What no module inside shows, where it is not the paper's."""
        return "" if self.align_corners else "align_corners=False"

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """c3, c4, c5 -> y, (B, width * len(dilations), H/8, W/8)."""
        _, c3, c4, c5 = pyramid
        size = c3.shape[-2:]
        # Figure 4a: one space for all levels. Figure 4b: enlarged and concatenated, the coarsest first.
        coarse = (resize(x, size, align_corners=self.align_corners) for x in (self.embed5(c5), self.embed4(c4)))
        y_c = torch.cat([*coarse, self.embed3(c3)], dim=1)
        y = torch.cat([arm(y_c) for arm in self.arms], dim=1)
        return pyramid._replace(c5=y)

"""Pyramid Scene Parsing head (PSPNet, Zhao et al., CVPR 2017), a multi-scale context head of Table 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fastfcn.errors import UserError
from fastfcn.models.layers import ALIGN_CORNERS, classifier, conv_bn_relu, pool, resize
from fastfcn.types import HeadOutput, Pyramid


class PSPHead(nn.Module):
    """Pools the map to several grids, spreads each over it again, and classifies map and grids together.

    Args:
        in_channels: channels of the pyramid's levels; the last is read.
        num_classes: of the logits.
        bins: side lengths of the pooled grids; each is projected to a quarter of the input's channels.
        align_corners: how the grids are spread: as the paper's code does, or, when false, as mmsegmentation.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        bins: Sequence[int] = (1, 2, 3, 6),
        align_corners: bool = ALIGN_CORNERS,
    ) -> None:
        super().__init__()
        if not bins:
            raise UserError("head.bins=[]: give at least one grid's side.")
        channels = in_channels[-1]
        width = channels // 4
        self.bins = tuple(bins)
        self.align_corners = align_corners
        self.branches = nn.ModuleList(conv_bn_relu(channels, width, 1) for _ in self.bins)
        self.block = conv_bn_relu(channels + len(self.bins) * width, width, 3)
        self.classify = classifier(width, num_classes)

    def extra_repr(self) -> str:
        """What no module inside shows."""
        return f"bins={self.bins}" + ("" if self.align_corners else ", align_corners=False")

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        """The last level (B, C, h, w) -> logits (B, num_classes, h, w)."""
        x = pyramid.c5
        grids = [
            resize(branch(pool(x, bins)), x.shape[-2:], align_corners=self.align_corners)
            for branch, bins in zip(self.branches, self.bins, strict=True)
        ]
        return HeadOutput(self.classify(self.block(torch.cat([x, *grids], dim=1))))

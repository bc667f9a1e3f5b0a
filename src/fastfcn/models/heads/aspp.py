"""Atrous Spatial Pyramid Pooling (DeepLabV3, Chen et al. 2017), a multi-scale context head of Table 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.layers import ChannelDropout, classifier, conv_bn_relu
from fastfcn.types import HeadOutput, Pyramid


class ImagePooling(nn.Module):
    """The image-level branch: the mean over the map, 1x1 convolution, spread over the map again.

    Args:
        in_channels: channels in.
        width: channels out.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.project = conv_bn_relu(in_channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w), constant over h and w."""
        pooled: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))
        return pooled.expand(-1, -1, *x.shape[-2:])


class ASPPHead(nn.Module):
    """A 1x1 branch, three dilated branches and image pooling, projected, then a 3x3 block and a classifier.

    Without the projection the 3x3 block reads all branches itself, as mmsegmentation's head does.

    Args:
        in_channels: channels of the pyramid's levels; the last is read.
        num_classes: of the logits.
        rates: dilations of the three 3x3 branches; 12, 24, 36 for output stride 8.
        width: channels of each branch; an eighth of the input when None.
        project: whether a 1x1 convolution to `width`, with dropout of 0.5, stands between branches and block.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        rates: Sequence[int] = (12, 24, 36),
        width: int | None = None,
        project: bool = True,
    ) -> None:
        super().__init__()
        if not rates:
            raise UserError("head.rates=[]: give at least one dilation.")
        channels = in_channels[-1]
        width = width or channels // 8
        self.branches = nn.ModuleList(
            [
                conv_bn_relu(channels, width, 1),
                *(conv_bn_relu(channels, width, 3, dilation=rate) for rate in rates),
                ImagePooling(channels, width),
            ]
        )
        total = (2 + len(rates)) * width
        self.project = nn.Sequential(*conv_bn_relu(total, width, 1), ChannelDropout(0.5)) if project else nn.Identity()
        self.block = conv_bn_relu(width if project else total, width, 3)
        self.classify = classifier(width, num_classes)

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        """The last level (B, C, h, w) -> logits (B, num_classes, h, w)."""
        x = torch.cat([branch(pyramid.c5) for branch in self.branches], dim=1)
        return HeadOutput(self.classify(self.block(self.project(x))))

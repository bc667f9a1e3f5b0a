"""Bilinear upsampling with skips at the cost of JPU: what JPU gains beyond its weights and its levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastfcn.models.layers import conv_bn_relu, resize
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid


class BilinearSkip(Upsampler):
    """JPU without its dilated depthwise convolutions: levels embedded, resized, concatenated, mixed at each position.

    Figure 4a and 4b of JPU's paper stand, four separable convolutions of dilation 1, 2, 4, 8 become one 1x1 convolution
    to the same channels. Their pointwise halves have exactly its weights, 3 width x 4 width in sum, so what differs are
    the depthwise halves and their norms: with ResNet-50 0.8% of the operations and 0.3% of the weights.

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every embedded map.
        arms: as many times `width` are the channels of the output; 4 as in JPU.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 512, arms: int = 4) -> None:
        super().__init__()
        c2, c3, c4, c5 = in_channels
        self.embed3 = conv_bn_relu(c3, width, 3)
        self.embed4 = conv_bn_relu(c4, width, 3)
        self.embed5 = conv_bn_relu(c5, width, 3)
        self.mix = conv_bn_relu(3 * width, arms * width, 1)
        self.out_channels = (c2, c3, c4, arms * width)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """c3, c4, c5 -> (B, arms * width, H/8, W/8)."""
        _, c3, c4, c5 = pyramid
        size = c3.shape[-2:]
        y_c = torch.cat([resize(self.embed5(c5), size), resize(self.embed4(c4), size), self.embed3(c3)], dim=1)
        return pyramid._replace(c5=self.mix(y_c))

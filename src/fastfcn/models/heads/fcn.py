"""The FCN head: the plain head, and the auxiliary one of every model of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from fastfcn.models.layers import classifier, conv_bn_relu
from fastfcn.types import HeadOutput, Pyramid


class FCNHead(nn.Module):
    """A 3x3 convolution to a quarter of the channels and a classifier.

    Args:
        in_channels: channels of the pyramid's levels.
        num_classes: of the logits.
        level: which level is read: c5 as the head, c4 as the auxiliary head.
    """

    def __init__(
        self, in_channels: Sequence[int], num_classes: int, *, level: Literal["c2", "c3", "c4", "c5"] = "c5"
    ) -> None:
        super().__init__()
        channels = in_channels[Pyramid._fields.index(level)]
        self.level = level
        self.block = conv_bn_relu(channels, channels // 4, 3)
        self.classify = classifier(channels // 4, num_classes)

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        """The level (B, C, h, w) -> logits (B, num_classes, h, w)."""
        return HeadOutput(self.classify(self.block(getattr(pyramid, self.level))))

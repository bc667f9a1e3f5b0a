"""Bilinear upsampling of the last level by four (Encoding-32-Bilinear, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from fastfcn.models.layers import resize
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid


class Bilinear(Upsampler):
    """Resizes c5 to the size of c3 and reads no other level: the arm without any detail.

    Args:
        in_channels: channels of c2 to c5.
    """

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        c2, c3, c4, c5 = in_channels
        self.out_channels = (c2, c3, c4, c5)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """(B, C5, H/32, W/32) -> (B, C5, H/8, W/8)."""
        return pyramid._replace(c5=resize(pyramid.c5, pyramid.c3.shape[-2:]))

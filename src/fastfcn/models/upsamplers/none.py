"""No upsampler: the dilated rival (DilatedFCN, section 3.1, Figure 1c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid


class NoUpsample(Upsampler):
    """Hands the pyramid on: the backbone is dilated, its last level lies at stride 8 already.

    Args:
        in_channels: channels of c2 to c5.
    """

    input_stride: ClassVar[int] = 8

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        c2, c3, c4, c5 = in_channels
        self.out_channels = (c2, c3, c4, c5)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """Give back the pyramid itself."""
        return pyramid

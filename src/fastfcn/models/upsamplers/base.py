"""The contract of an upsampler."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from fastfcn.types import Pyramid


class Upsampler(nn.Module):
    """Brings the last level of a pyramid to stride 8.

    A subclass takes ``in_channels`` (four integers, c2 to c5) as its first argument, its options by keyword, sets
    ``out_channels`` and implements ``forward``. With one YAML file under ``conf/upsample`` it is an option of its own.

    Attributes:
        input_stride: the backbone's output stride that the module expects.
        out_channels: channels of the four levels that it gives.
    """

    input_stride: ClassVar[int] = 32
    out_channels: tuple[int, int, int, int]

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """Upsample: the levels below the last may be handed on as they are."""
        raise NotImplementedError

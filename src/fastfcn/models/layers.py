"""Small pieces that the modules of the paper share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The original resizes every feature map and every logit map so; a port that does not gives other numbers.
ALIGN_CORNERS = True


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly, as everywhere in the paper's code: (B, C, h, w) -> (B, C, *size)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=ALIGN_CORNERS)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for what follows, on devices that have it (the meta device has none)."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1) -> nn.Sequential:
    """The regular convolution block of Figure 4a: convolution without bias, BatchNorm, ReLU; the size is kept."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def classifier(in_channels: int, num_classes: int, *, dropout: float = 0.1) -> nn.Sequential:
    """What every head ends with: channel-wise dropout and a 1x1 convolution to the classes."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(in_channels, num_classes, 1))


class SeparableConv(nn.Sequential):
    """The separable convolution of Figure 4b: depthwise 3x3 with a dilation, a norm, then 1x1.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        dilation: of the depthwise convolution.
        norm: norm layer between the two convolutions; the original has one there, though the paper's figure does not
            draw it.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int, norm: nn.Module) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
        )
        self.norm = norm
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

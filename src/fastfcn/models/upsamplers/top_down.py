"""The frame that upsampling operators are put into: the top-down pathway of a Feature Pyramid Network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid

#: ``operator(width)`` gives a module (coarse map, finer map as guidance) -> the coarse map at the finer map's size.
OperatorFactory = Callable[[int], nn.Module]


class TopDown(Upsampler):
    """Top-down pathway with lateral connections over c5, c4, c3 (Lin et al., CVPR 2017, section 3).

    1x1 lateral convolutions to one width, the coarser map enlarged and added, twice, a 3x3 convolution on the merged
    map; no non-linearity. Only P3 at stride 8 is read behind it, so P4 and P5 have no output convolution of their own.
    What enlarges is the operator: options that share this frame differ in nothing else.

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
        operator: enlarges by two. It gets the coarse map and the finer level's lateral map, which it may read.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int, operator: OperatorFactory) -> None:
        super().__init__()
        c2, c3, c4, c5 = in_channels
        self.lateral3 = nn.Conv2d(c3, width, 1)
        self.lateral4 = nn.Conv2d(c4, width, 1)
        self.lateral5 = nn.Conv2d(c5, width, 1)
        self.smooth3 = nn.Conv2d(width, width, 3, padding=1)
        for module in (self.lateral3, self.lateral4, self.lateral5, self.smooth3):
            nn.init.kaiming_uniform_(module.weight, a=1)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.enlarge5 = operator(width)
        self.enlarge4 = operator(width)
        self.out_channels = (c2, c3, c4, width)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        """c3, c4, c5 -> P3, (B, width, H/8, W/8)."""
        _, c3, c4, c5 = pyramid
        lateral4, lateral3 = self.lateral4(c4), self.lateral3(c3)
        m4 = lateral4 + self.enlarge5(self.lateral5(c5), lateral4)
        m3 = lateral3 + self.enlarge4(m4, lateral3)
        return pyramid._replace(c5=self.smooth3(m3))


def extended(x: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last row and column until a map has at least a size: (B, C, h, w) -> (B, C, >= H, >= W)."""
    for dim, wanted in zip((2, 3), size, strict=True):
        missing = wanted - x.shape[dim]
        if isinstance(missing, torch.SymInt):  # in a graph for any size nobody can say whether something is missing
            x = x.index_select(dim, torch.arange(wanted, device=x.device).clamp(max=x.shape[dim] - 1))
            continue
        if missing > 0:
            x = torch.cat([x, *[x.narrow(dim, x.shape[dim] - 1, 1)] * missing], dim=dim)
    return x


def cropped(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first rows and columns: (B, C, >= H, >= W) -> (B, C, H, W)."""
    for dim, wanted in zip((2, 3), size, strict=True):
        if isinstance(wanted, torch.SymInt):  # as in `extended`: a slice asks whether it ends within the map
            x = x.index_select(dim, torch.arange(wanted, device=x.device))
        else:
            x = x.narrow(dim, 0, wanted)
    return x


def covering(x: Tensor, size: Sequence[int]) -> Tensor:
    """A coarse map, extended where it does not cover a size when it is enlarged by two.

    A level of stride 2s has half the positions of the one of stride s, rounded up or, by some backbones, down. In the
    first case what comes out of an operator is cropped; in the second it would lack the last row or column.
    """
    # (side + 1) // 2 and not -(-side // 2): a division in ONNX is cut towards zero, which is another below zero.
    return extended(x, [(side + 1) // 2 for side in size])


def windows(x: Tensor, size: int) -> Tensor:
    """The size x size neighbours of each position, zero beyond the edge: (B, C, h, w) -> (B, h, w, size^2, C)."""
    r = size // 2
    found = F.pad(x, (r, r, r, r)).unfold(2, size, 1).unfold(3, size, 1)  # (B, C, h, w, size, size)
    return found.permute(0, 2, 3, 4, 5, 1).flatten(3, 4)


def quarters(x: Tensor) -> Tensor:
    """The four positions of the fine grid in each of the coarse: (B, C, 2h, 2w) -> (B, h, w, 4, C)."""
    batch, channels, height, width = x.shape
    if isinstance(height, torch.SymInt):  # in a graph for any size a view asks how the sides divide; this does not
        rows, columns = (2 * torch.arange(side // 2, device=x.device) for side in (height, width))
        corners = [x.index_select(2, rows + i).index_select(3, columns + j) for i in (0, 1) for j in (0, 1)]
        return torch.stack(corners, dim=1).permute(0, 3, 4, 1, 2)
    parted = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return parted.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)


def joined(x: Tensor) -> Tensor:
    """The way back from `quarters`: (B, h, w, 4, C) -> (B, C, 2h, 2w), channels last in memory."""
    batch, height, width, _, channels = x.shape
    parted = x.view(batch, height, width, 2, 2, channels).transpose(2, 3).contiguous()
    return parted.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)

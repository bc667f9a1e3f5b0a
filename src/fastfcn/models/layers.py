"""Small pieces that the modules of the paper share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

#: The original resizes every feature map and every logit map so; a port that does not gives other numbers.
ALIGN_CORNERS = True


def resize(x: Tensor, size: Sequence[int], *, align_corners: bool = ALIGN_CORNERS) -> Tensor:
    """Resize bilinearly, as everywhere in the paper's code: (B, C, h, w) -> (B, C, *size).

    Without `align_corners` as mmsegmentation does: the borders of the corner pixels stay in place, not their centres.
    """
    sides = (*x.shape[-2:], *size)
    # In a graph for any size nobody can say whether they are the same; resizing to the same changes nothing.
    if not any(isinstance(side, torch.SymInt) for side in sides) and sides[:2] == sides[2:]:
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def interpolation(size: int, wanted: int, *, like: Tensor) -> Tensor:
    """What `resize` does along one side, as a matrix: (size, wanted), at most two weights in a column.

    Args:
        size: Positions that there are.
        wanted: Positions that come out.
        like: Gives the device, and the number type, float32 at least.
    """
    with full_precision(like):
        unit = torch.eye(size, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
        return resize(unit[None, None], (size, wanted))[0, 0]


def pool(x: Tensor, bins: int) -> Tensor:
    """Means over a grid of cells that cover the map, as ``F.adaptive_avg_pool2d``: (B, C, h, w) -> (B, C, bins, bins).

    torch's operator takes the cells from the size in numbers: in a graph for any size, as of torch.onnx.export, they
    would be those of the example for ever, and other sizes would silently give other means. There, two matrix products
    take their place, whose cells are worked out in the graph.
    """
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool2d(x, bins)
    if bins == 1:
        return x.mean(dim=(2, 3), keepdim=True)
    rows, columns = (_cells(side, bins, like=x) for side in x.shape[-2:])
    return rows @ x @ columns.T


def _cells(side: int, bins: int, *, like: Tensor) -> Tensor:
    """The mean over each cell along one side, as a matrix: (bins, side).

    Cell i holds the positions from floor(i side / bins) up to ceil((i + 1) side / bins), which is left out.
    """
    cell = torch.arange(bins, device=like.device)[:, None]
    position = torch.arange(side, device=like.device)[None]
    begin = torch.div(cell * side, bins, rounding_mode="floor")
    end = torch.div((cell + 1) * side + bins - 1, bins, rounding_mode="floor")
    inside = ((position >= begin) & (position < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


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


class ChannelDropout(nn.Dropout2d):
    """Channel-wise dropout whose choice does not depend on the number of processes that share a batch.

    Each process draws for the global batch, from the same random state in all, and keeps the rows of its own images:
    they are every world_size-th of the global batch, as the training sampler deals them. One process is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; in training whole channels are 0 and the others larger by 1 / (1 - p)."""
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if not self.training or self.p == 0.0 or processes == 1:
            y: Tensor = super().forward(x)
            return y
        kept = x.new_empty(len(x) * processes, x.shape[1], 1, 1).bernoulli_(1 - self.p).div_(1 - self.p)
        return x * kept[dist.get_rank() :: processes]


def classifier(in_channels: int, num_classes: int, *, dropout: float = 0.1) -> nn.Sequential:
    """What every head ends with: channel-wise dropout and a 1x1 convolution to the classes."""
    return nn.Sequential(ChannelDropout(dropout), nn.Conv2d(in_channels, num_classes, 1))


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

"""DySample: Learning to Upsample by Learning to Sample (Liu et al., ICCV 2023, arXiv 2308.15085)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.layers import full_precision
from fastfcn.models.upsamplers.top_down import TopDown, covering, cropped

#: Equation 4, the static scope factor: with it the offsets of neighbours meet and do not cross.
SCOPE = 0.25


class DynamicSampling(nn.Module):
    """The operator: the coarse map is sampled bilinearly at learned places (section 3, equations 1 to 4).

    ``X' = grid_sample(X, G + O)``, ``O = 0.25 linear(X)``. G are the positions of the fine grid within the coarse one
    ("bilinear initialisation"), a quarter of a coarse position beside its middle: with O = 0 this is bilinear
    enlargement whose corners are not aligned. O has one offset for each of the four fine positions (linear, then
    pixel shuffle) and for each group of channels. Beyond the edge the map goes on as its last position.

    Args:
        channels: C.
        groups: g, of channels that are sampled alike; a divisor of C.

    Raises:
        UserError: `groups` does not divide the channels.
    """

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise UserError(f"upsample.groups={groups}: give a divisor of upsample.width={channels}.")
        self.groups = groups
        self.offset = nn.Conv2d(channels, 2 * groups * 4, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w), and (B, ., H, W) whose size alone is read -> (B, C, H, W)."""
        _need_backward(coarse.device)
        height, width = fine.shape[-2:]
        coarse = covering(coarse, (height, width))
        offsets = F.pixel_shuffle(self.offset(coarse), 2).unflatten(1, (self.groups, 2))
        with full_precision(coarse):  # a place among many, in bfloat16, would be off by half a position
            x = coarse.to(torch.promote_types(coarse.dtype, torch.float32))
            y = F.grid_sample(
                x.unflatten(1, (self.groups, -1)).flatten(0, 1), _places(SCOPE * offsets.to(x.dtype)).flatten(0, 1),
                mode="bilinear", padding_mode="border", align_corners=False,
            )  # fmt: skip
        return cropped(y.view(*coarse.shape[:2], *y.shape[2:]), (height, width)).to(coarse.dtype)


def _places(offsets: Tensor) -> Tensor:
    """G + O as grid_sample wants it, -1 and 1 at the edges.

    Args:
        offsets: O, (B, g, (x, y), 2h, 2w) in coarse positions.

    Returns:
        (B, g, 2h, 2w, (x, y)).
    """
    height, width = offsets.shape[-2:]
    # G lies at the middle of each fine position, and a coarse position is two fine ones long.
    rows, columns = (torch.arange(n, dtype=offsets.dtype, device=offsets.device) + 0.5 for n in (height, width))
    across = (columns + 2 * offsets[:, :, 0]) / (width / 2) - 1
    down = (rows[:, None] + 2 * offsets[:, :, 1]) / (height / 2) - 1
    return torch.stack([across, down], dim=-1)


def _need_backward(device: torch.device) -> None:
    """UserError where torch would refuse the backward pass in the midst of a training."""
    strict = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda" and strict and torch.is_grad_enabled():
        raise UserError(
            "deterministic=true: on a GPU torch has no deterministic gradients of what upsample=dysample does; choose "
            "deterministic=warn, or another upsampler."
        )


class DySample(TopDown):
    """DySample in the place of nearest neighbour in the top-down pathway, as in the paper's Panoptic FPN (section 4).

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
        groups: g, 4 in the paper for "linear, then pixel shuffle" with a static scope factor.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 256, groups: int = 4) -> None:
        super().__init__(in_channels, width=width, operator=partial(DynamicSampling, groups=groups))

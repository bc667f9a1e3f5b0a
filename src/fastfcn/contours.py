"""How wide the bands along contours are, for the metric on them and for the pictures of them."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

#: Width of Boundary IoU's bands relative to the picture's diagonal (Cheng et al., CVPR 2021).
CONTOUR_RATIO = 0.02


def contour_distance(height: int, width: int, *, ratio: float = CONTOUR_RATIO) -> int:
    """Width of the bands in pixels: a share of the picture's diagonal, at least one pixel."""
    return max(1, round(ratio * math.hypot(height, width)))


def square_max(x: Tensor, distance: int) -> Tensor:
    """The largest value within `distance` rows and columns of each place: (B, C, H, W) of the same shape.

    Along rows and then along columns, by windows that double: the bands of a picture of 4,000 x 4,000 pixels are 113
    pixels wide, and a window of 227 x 227 around each pixel would take hours.
    """
    return _line_max(_line_max(x, distance, dim=3), distance, dim=2)


def _line_max(x: Tensor, distance: int, *, dim: int) -> Tensor:
    """The largest value within `distance` places along a dimension, in about 2 log2(distance) passes."""
    pad = (distance, distance, 0, 0) if dim == 3 else (0, 0, distance, distance)
    size = x.shape[dim]
    reached = F.pad(x, pad, value=-math.inf)  # the maximum of `span` places from each one on
    span, wanted = 1, 2 * distance + 1
    while span < wanted:
        step = min(span, wanted - span)
        length = reached.shape[dim] - step
        reached = reached.narrow(dim, 0, length).maximum(reached.narrow(dim, step, length))
        span += step
    assert reached.shape[dim] == size
    return reached

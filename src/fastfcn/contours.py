"""How wide the bands along contours are, for the metric on them and for the pictures of them."""

from __future__ import annotations

import math

#: Width of Boundary IoU's bands relative to the picture's diagonal (Cheng et al., CVPR 2021).
CONTOUR_RATIO = 0.02


def contour_distance(height: int, width: int, *, ratio: float = CONTOUR_RATIO) -> int:
    """Width of the bands in pixels: a share of the picture's diagonal, at least one pixel."""
    return max(1, round(ratio * math.hypot(height, width)))

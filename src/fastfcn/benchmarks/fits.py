"""How a cost grows: a line through measured times, and the slope of their logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls


class Fit(NamedTuple):
    """Of measured seconds over an amount of work (pixels, images, classes).

    Attributes:
        constant: seconds that a call takes however little there is to do; never negative.
        slope: seconds per unit; never negative.
        exponent: slope of log time over log amount: 1 where time grows like the amount.
        worst: largest relative difference between a measured time and the line.
    """

    constant: float
    slope: float
    exponent: float
    worst: float

    def __str__(self) -> str:
        """``0.012 s + 3.1e-06 s each, exponent 0.97, off by 4% at most``."""
        line = f"{self.constant:.3g} s + {self.slope:.3g} s each"
        return f"{line}, exponent {self.exponent:.2f}, off by {self.worst:.0%} at most"


def fit(amounts: Sequence[float], seconds: Sequence[float]) -> Fit | None:
    """Least squares of the relative errors, so that the smallest amounts count as much as the largest.

    Returns:
        None where fewer than three different amounts leave nothing to be wrong about.
    """
    x, y = np.asarray(amounts, dtype=float), np.asarray(seconds, dtype=float)
    if len(np.unique(x)) < 3:
        return None
    scale = x.max()
    (constant, slope), _ = nnls(np.stack([1 / y, x / scale / y], axis=1), np.ones_like(y))
    exponent = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    worst = float(np.abs((constant + slope / scale * x) / y - 1).max())
    return Fit(float(constant), float(slope / scale), exponent, worst)

"""Means over seeds with their uncertainty, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.special import stdtrit

#: Of the intervals.
LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half the width of its 95% t-interval; None for a single value, which tells nothing of the spread.
        n: number of values.
    """

    mean: float
    half: float | None
    n: int

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half is None else self.mean + self.half

    @property
    def excludes_zero(self) -> bool | None:
        """Whether 0 lies outside of the interval; None where there is no interval."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


class Difference(NamedTuple):
    """How much one row is above another; ``paired`` by seed, or of two means, which has no interval here."""

    estimate: Estimate
    paired: bool


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with its 95% interval by Student's t, which takes the values as drawn from a normal distribution."""
    count = len(values)
    if count < 2:
        return Estimate(values[0], None, count)
    quantile = float(stdtrit(count - 1, (1 + LEVEL) / 2))
    return Estimate(fmean(values), quantile * stdev(values) / math.sqrt(count), count)


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """Ours less theirs: the mean of the differences within each seed that both have.

    Args:
        ours: a figure by seed.
        theirs: the same figure of the other row.

    Returns:
        Without a common seed the difference of the means, which has no interval; None where one has no value at all.
    """
    if not ours or not theirs:
        return None
    if common := sorted(ours.keys() & theirs.keys()):
        return Difference(estimate([ours[seed] - theirs[seed] for seed in common]), paired=True)
    return Difference(Estimate(fmean(ours.values()) - fmean(theirs.values()), None, 0), paired=False)

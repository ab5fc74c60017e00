"""Compute the likelihood ratio of new runs: with growth of a test against without. Pure computation.

The distribution of the noise is estimated from the old runs. Unlike rank tests and means, a likelihood ratio uses
all of it: two modes, tails, rare outliers, and correlation between successive runs. If nothing has changed and
the distribution is known, the ratio exceeds 1/p with a probability of at most p (Markov's inequality). Here the
distribution is an estimate, so docs/design/analysis/regression.md has the measured error rates.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MINIMUM_AUTOCORRELATION = 0.25
"""Smallest correlation of successive runs that is used; one of 25 histories of 50 independent runs exceeds it."""
MAXIMUM_AUTOCORRELATION = 0.9
_WIDTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
"""Kernel widths that are tried, in standard deviations of the densest half of the values."""
_MINIMUM_WIDTH = 0.004
"""Smallest kernel width, as a difference of logarithms (0.4 %): no figure is measured more exactly."""
_DEGREES_OF_FREEDOM = 3.0
"""Degrees of freedom of the kernel (Student's t). Its heavy tails limit the effect of a single outlier."""
_KERNEL_HEIGHT = 2 / (math.pi * math.sqrt(_DEGREES_OF_FREEDOM))
_OUTLIER_DENSITY = 0.002
"""Density that is added everywhere, for runs that resemble none of the old ones."""
_NORMAL_QUARTILES = 1.349
"""Interquartile range of a normal distribution in standard deviations, which is also the width of its densest
half.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio:
    """Growth of a figure that new runs suggest, and how strongly they suggest it."""

    growth: float
    """The most likely growth; 0.15: 15 % more."""
    log_ratio: float
    """Natural logarithm of the likelihood of the new runs with growth above the tolerance, divided by their
    likelihood without growth.
    """
    autocorrelated: bool
    """True if successive runs are correlated."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Kernel density estimate of the noise, from the deviations of the old runs from their prediction."""

    values: tuple[float, ...]
    width: float

    def log_density(self, value: float) -> float:
        """Return the natural logarithm of the density at a deviation."""
        total = 0.0
        for known in self.values:
            distance = (value - known) / self.width
            square = 1 + distance * distance / _DEGREES_OF_FREEDOM
            total += 1 / (square * square)
        return math.log(_KERNEL_HEIGHT * total / (self.width * len(self.values)) + _OUTLIER_DENSITY)


def likelihood_ratio(old: Sequence[float], new: Sequence[float], *, tolerance: float) -> LikelihoodRatio:
    """Return the likelihood ratio of growth above `tolerance` (0.1: 10 %).

    `old` and `new` are natural logarithms of the figures, oldest first.
    """
    middle, correlation = median(old), autocorrelation(old)
    if correlation:  # predict each run from the one before it; the rest is noise
        known = [after - middle - correlation * (before - middle) for before, after in pairwise(old)]
        found = [after - middle - correlation * (before - middle) for before, after in pairwise([old[-1], *new])]
    else:
        known, found = [value - middle for value in old], [value - middle for value in new]
    # If the growth began with the first new run, the prediction of each later one already includes a part of it.
    shares = [1.0, *(1 - correlation for _ in found[1:])]
    noise = Noise(tuple(known), kernel_width(tuple(known)))
    without = sum(noise.log_density(value) for value in found)
    allowed = math.log1p(tolerance)
    log_ratios = {
        shift: sum(noise.log_density(v - share * shift) for v, share in zip(found, shares, strict=True)) - without
        for shift in _shifts(allowed, median(new) - middle)
    }
    above = [one for shift, one in log_ratios.items() if shift >= allowed]
    highest = max(above)
    mixed = highest + math.log(sum(math.exp(one - highest) for one in above) / len(above))
    return LikelihoodRatio(
        growth=math.expm1(max(log_ratios, key=log_ratios.__getitem__)),
        log_ratio=mixed,
        autocorrelated=correlation > 0,
    )


def _shifts(allowed: float, seen: float) -> list[float]:
    """Return the growths to try, as logarithms: quarters of the tolerance up to twice the tolerance, then steps of
    6 % up to more than twice the figure, then the observed growth if it is larger.
    """
    shifts = [allowed * part / 4 for part in range(1, 9)] + [allowed * 2 + 0.06 * step for step in range(1, 14)]
    return [*shifts, seen] if seen > shifts[-1] else shifts


@lru_cache(maxsize=512)
def kernel_width(values: tuple[float, ...]) -> float:
    """Return the kernel width with the highest leave-one-out likelihood: each value is predicted best by the
    others.

    For figures that come in steps the width is at least 0.6 steps.
    """
    ordered, half = sorted(values), len(values) // 2
    densest = min(ordered[at + half] - ordered[at] for at in range(len(values) - half)) / _NORMAL_QUARTILES
    quarters = (ordered[3 * len(values) // 4] - ordered[len(values) // 4]) / _NORMAL_QUARTILES
    scale = max(min(quarters, densest) if densest > 0 else quarters, _MINIMUM_WIDTH)
    least = max(_MINIMUM_WIDTH, 0.6 * _step(ordered))
    widths = [max(width * scale, least) for width in _WIDTHS]
    return max(widths, key=lambda width: _leave_one_out(values, width))


def _leave_one_out(values: tuple[float, ...], width: float) -> float:
    """Return the sum of the logarithms of each value's density, estimated from the others."""
    total = 0.0
    for at, value in enumerate(values):
        near = 0.0
        for other, known in enumerate(values):
            if other != at:
                distance = (value - known) / width
                square = 1 + distance * distance / _DEGREES_OF_FREEDOM
                near += 1 / (square * square)
        total += math.log(near / (width * (len(values) - 1)) + _OUTLIER_DENSITY)
    return total


def _step(ordered: Sequence[float]) -> float:
    """Return the median step between the distinct values if most values are equal to another one, else 0."""
    gaps = [after - before for before, after in pairwise(ordered)]
    apart = [gap for gap in gaps if gap > 1e-9]
    return median(apart) if apart and 2 * len(apart) < len(gaps) else 0.0


def autocorrelation(values: Sequence[float]) -> float:
    """Return the correlation of each run with the next; 0 if it is below `MINIMUM_AUTOCORRELATION`.

    It is computed from the correlation of the ranks (Pearson 1907) and corrected for the bias of a short history
    (Kendall 1954).
    """
    every = sorted(values)
    ranks = [bisect_left(every, value) + bisect_right(every, value) for value in values]
    mean = sum(ranks) / len(ranks)
    total = sum((rank - mean) ** 2 for rank in ranks)
    if total == 0:
        return 0.0
    found = sum((a - mean) * (b - mean) for a, b in pairwise(ranks)) / total
    if found <= MINIMUM_AUTOCORRELATION:
        return 0.0
    runs = len(values)
    return min((2 * math.sin(math.pi * found / 6) + 1 / runs) / (1 - 3 / runs), MAXIMUM_AUTOCORRELATION)

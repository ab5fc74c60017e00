"""How much more likely new runs are if a test has grown than if it has not. Pure. The shape of its noise is learnt
from the old runs.

A ratio of likelihoods uses what rank tests and means throw away: two modes, tails, rare outliers, runs that
resemble the ones before them. By Markov's inequality it exceeds 1/p with a probability of at most p where nothing
has changed and the shape is known; it is learnt, so docs/design/analysis/regression.md has the measured rates.
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

LEAST_LIKENESS = 0.25
"""Correlation of neighbours; chance alone makes as much in one of 25 histories of 50 runs."""
MOST_LIKENESS = 0.9
_WIDTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
"""Of the kernel, in standard deviations of the densest half."""
_LEAST_WIDTH = 0.004
"""0.4 %: no figure is known better."""
_FREEDOM = 3.0
"""Degrees of freedom of the kernel, Student's t: tails that one run far off does not frighten."""
_HEIGHT = 2 / (math.pi * math.sqrt(_FREEDOM))
_ANYTHING = 0.002
"""Density of a run that is like none before it, wherever it lies."""
_QUARTERS = 1.349
"""Standard deviations between the quarters of a normal distribution, and the length of its densest half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What new runs say of growth."""

    growth: float
    """The most likely: 0.15 is 15 % more."""
    weight: float
    """Natural logarithm of how much more likely the runs are with growth above the tolerance than with none."""
    alike: bool
    """Whether runs resemble the ones before them."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Deviations of old runs from what the ones before them foretold, as a density."""

    values: tuple[float, ...]
    width: float

    def log_density(self, value: float) -> float:
        """At a deviation."""
        total = 0.0
        for known in self.values:
            distance = (value - known) / self.width
            square = 1 + distance * distance / _FREEDOM
            total += 1 / (square * square)
        return math.log(_HEIGHT * total / (self.width * len(self.values)) + _ANYTHING)


def evidence(old: Sequence[float], new: Sequence[float], *, tolerance: float) -> Evidence:
    """Of logarithms, both oldest first. `tolerance`: growth that is allowed (0.1: 10 %)."""
    middle, alike = median(old), likeness(old)
    if alike:  # each run is foretold by the one before it: what is left is noise
        known = [after - middle - alike * (before - middle) for before, after in pairwise(old)]
        found = [after - middle - alike * (before - middle) for before, after in pairwise([old[-1], *new])]
    else:
        known, found = [value - middle for value in old], [value - middle for value in new]
    # Of a growth that began with the first new run, the later ones foretell a part already.
    shares = [1.0, *(1 - alike for _ in found[1:])]
    noise = Noise(tuple(known), kernel_width(tuple(known)))
    without = sum(noise.log_density(value) for value in found)
    allowed = math.log1p(tolerance)
    weights = {
        shift: sum(noise.log_density(v - share * shift) for v, share in zip(found, shares, strict=True)) - without
        for shift in _shifts(allowed, median(new) - middle)
    }
    above = [weight for shift, weight in weights.items() if shift >= allowed]
    highest = max(above)
    mixed = highest + math.log(sum(math.exp(weight - highest) for weight in above) / len(above))
    return Evidence(growth=math.expm1(max(weights, key=weights.__getitem__)), weight=mixed, alike=alike > 0)


def _shifts(allowed: float, seen: float) -> list[float]:
    """Growth that is tried, as logarithms: in quarters of the tolerance up to twice that, then in steps of 6 % to
    more than twice the figure; beyond, what was seen.
    """
    shifts = [allowed * part / 4 for part in range(1, 9)] + [allowed * 2 + 0.06 * step for step in range(1, 14)]
    return [*shifts, seen] if seen > shifts[-1] else shifts


@lru_cache(maxsize=512)
def kernel_width(values: tuple[float, ...]) -> float:
    """The width under which each value is best foretold by the others (leave-one-out likelihood). Not under what
    separates figures that come in steps.
    """
    ordered, half = sorted(values), len(values) // 2
    densest = min(ordered[at + half] - ordered[at] for at in range(len(values) - half)) / _QUARTERS
    quarters = (ordered[3 * len(values) // 4] - ordered[len(values) // 4]) / _QUARTERS
    scale = max(min(quarters, densest) if densest > 0 else quarters, _LEAST_WIDTH)
    least = max(_LEAST_WIDTH, 0.6 * _step(ordered))
    widths = [max(width * scale, least) for width in _WIDTHS]
    return max(widths, key=lambda width: _foretold(values, width))


def _foretold(values: tuple[float, ...], width: float) -> float:
    total = 0.0
    for at, value in enumerate(values):
        near = 0.0
        for other, known in enumerate(values):
            if other != at:
                distance = (value - known) / width
                square = 1 + distance * distance / _FREEDOM
                near += 1 / (square * square)
        total += math.log(near / (width * (len(values) - 1)) + _ANYTHING)
    return total


def _step(ordered: Sequence[float]) -> float:
    """Between figures of which most are equal to another one; 0 for others."""
    gaps = [after - before for before, after in pairwise(ordered)]
    apart = [gap for gap in gaps if gap > 1e-9]
    return median(apart) if apart and 2 * len(apart) < len(gaps) else 0.0


def likeness(values: Sequence[float]) -> float:
    """Correlation of each run with the next, from that of their ranks (Pearson 1907), without the share by which
    a short history understates it (Kendall 1954); 0 below what chance alone makes often.
    """
    every = sorted(values)
    ranks = [bisect_left(every, value) + bisect_right(every, value) for value in values]
    mean = sum(ranks) / len(ranks)
    total = sum((rank - mean) ** 2 for rank in ranks)
    if total == 0:
        return 0.0
    found = sum((a - mean) * (b - mean) for a, b in pairwise(ranks)) / total
    if found <= LEAST_LIKENESS:
        return 0.0
    runs = len(values)
    return min((2 * math.sin(math.pi * found / 6) + 1 / runs) / (1 - 3 / runs), MOST_LIKENESS)

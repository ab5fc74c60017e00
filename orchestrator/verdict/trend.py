"""Find steady growth of a figure to its test's end, robust against single jumps and noise. Pure computation.

The slope is that of Theil and Sen (Sen 1968, J. Am. Stat. Assoc. 63): the median of the slopes between all pairs
of points, so up to 29 % of the points may be wrong. Only the second half counts, because every test allocates
resources when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_POINTS = 5
"""Smallest number of points in the second half for a judgement."""
MIN_SECONDS = 0.4
MAX_POINTS = 64
"""Largest number of points that are used; the number of pairs grows with its square."""
MAX_STEP_RATIO = 0.4
"""Largest share of the growth that may come in one step. A test that opens 200 files at once and keeps them grows
in one step, or in two if a sample was taken meanwhile.
"""
MAX_DROP_RATIO = 0.25
"""Largest share of the growth that may be released at the end; with more the figure no longer grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Growth through the second half of a test."""

    first: float
    last: float
    growth: float
    """The smaller of two estimates: slope times duration, and last value minus first."""
    seconds: float
    per_second: float


def steady_growth(points: Sequence[tuple[float, float]], *, minimum: float) -> Trend | None:
    """Return the growth of `points`, or None if it is not steady.

    Each point is (seconds since the test's start, value), in order of time. Growth is steady if it is at least
    `minimum`, no single step is most of it, and it had not ended before the test.
    """
    tail = _second_half(points)
    if len(tail) < MIN_POINTS:
        return None
    (began, first), (ended, last) = tail[0], tail[-1]
    seconds = ended - began
    if seconds < MIN_SECONDS:
        return None
    slopes = [(b - a) / (u - t) for (t, a), (u, b) in combinations(tail, 2) if u > t]
    per_second = median(slopes)
    growth = min(per_second * seconds, last - first)
    if growth <= 0 or growth < minimum:
        return None
    values = [value for _, value in tail]
    if max(b - a for a, b in pairwise(values)) > MAX_STEP_RATIO * growth:
        return None
    if max(values) - last > MAX_DROP_RATIO * growth:
        return None
    return Trend(first=first, last=last, growth=growth, seconds=seconds, per_second=per_second)


def _second_half(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points from half of the last one's time on, evenly reduced to `MAX_POINTS`, both ends kept."""
    half = points[-1][0] / 2 if points else 0.0
    tail = [point for point in points if point[0] >= half]
    if len(tail) <= MAX_POINTS:
        return tail
    return [tail[i * (len(tail) - 1) // (MAX_POINTS - 1)] for i in range(MAX_POINTS)]

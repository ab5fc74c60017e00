"""Summarise measured values: maximum, mean, percentiles and a short history. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

N = TypeVar("N", int, float)

HISTORY_POINTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The count, maximum, mean and percentiles of values. Each figure but the mean is one of the values."""

    count: int
    maximum: float
    mean: float
    p50: float
    p95: float
    p99: float


def percentile(ordered: Sequence[N], ratio: float) -> N:
    """Return the nearest-rank percentile of values in ascending order, which is one of them. ValueError if there
    are none.
    """
    if not ordered:
        raise ValueError("no percentile of nothing")
    return ordered[rank(ratio, len(ordered)) - 1]


@lru_cache(maxsize=1024)
def rank(ratio: float, count: int) -> int:
    """Return the nearest rank of a percentile among `count` ordered values, counted from 1."""
    # The rounding undoes what binary fractions add: 0.95 * 20 must be rank 19, never 20.
    return min(max(math.ceil(round(ratio * count, 9)), 1), count)


def distribution(values: Sequence[float]) -> Distribution:
    """Summarise values in any order. ValueError if there are none."""
    ordered = sorted(values)
    return Distribution(
        count=len(ordered),
        p50=percentile(ordered, 0.5),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        maximum=ordered[-1],
        mean=sum(ordered) / len(ordered),
    )


def downsample_maxima(values: Sequence[float], points: int = HISTORY_POINTS) -> tuple[float, ...]:
    """Divide values in order of time into at most `points` groups of nearly equal length, and return the maximum
    of each group.
    """
    return tuple([max(values[group]) for group in _groups(len(values), min(points, len(values)))])


@lru_cache(maxsize=1024)
def _groups(length: int, number: int) -> tuple[slice, ...]:
    """Return the slices that divide `length` values into `number` groups. Cached, because most tests have equally
    many values in a window.
    """
    edges = [length * part // number for part in range(number + 1)] if number else []
    return tuple(slice(start, end) for start, end in pairwise(edges))

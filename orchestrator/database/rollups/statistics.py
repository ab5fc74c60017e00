"""What is told of many measured values: maximum, mean, percentiles, a short history. Pure."""

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
    """How measured values are spread; each but the mean is one of them."""

    count: int
    maximum: float
    mean: float
    p50: float
    p95: float
    p99: float


def percentile(ordered: Sequence[N], ratio: float) -> N:
    """Nearest-rank percentile of values in ascending order: one of them. ValueError if there are none."""
    if not ordered:
        raise ValueError("no percentile of nothing")
    return ordered[rank(ratio, len(ordered)) - 1]


@lru_cache(maxsize=1024)
def rank(ratio: float, count: int) -> int:
    """Of the nearest-rank percentile: which of so many ordered values it is, from 1."""
    # The rounding undoes what binary fractions add: 0.95 * 20 must be rank 19, never 20.
    return min(max(math.ceil(round(ratio * count, 9)), 1), count)


def distribution(values: Sequence[float]) -> Distribution:
    """Of values in any order. ValueError if there are none."""
    ordered = sorted(values)
    return Distribution(
        count=len(ordered),
        p50=percentile(ordered, 0.5),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        maximum=ordered[-1],
        mean=sum(ordered) / len(ordered),
    )


def downsample_maxima(values: Sequence[float], parts: int = HISTORY_POINTS) -> tuple[float, ...]:
    """Values in order of time as the maxima of at most `parts` runs of them, of nearly equal length."""
    return tuple([max(values[part]) for part in _runs(len(values), min(parts, len(values)))])


@lru_cache(maxsize=1024)
def _runs(length: int, number: int) -> tuple[slice, ...]:
    """Where runs begin and end: of most tests a window has equally many values."""
    edges = [length * part // number for part in range(number + 1)] if number else []
    return tuple(slice(start, end) for start, end in pairwise(edges))

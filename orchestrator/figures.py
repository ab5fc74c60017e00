"""Summarise measured figures: known values, median, percentiles, maxima of equal parts. Pure computation."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")
N = TypeVar("N", int, float)


def known_values(values: Sequence[T | None]) -> Sequence[T]:
    """Return the values that are not None; `values` itself if none is, because a search is faster than a copy."""
    return [value for value in values if value is not None] if None in values else cast("Sequence[T]", values)


def median_of_known(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def percentile(ordered: Sequence[N], ratio: float) -> N:
    """Return the nearest-rank percentile of values in ascending order, which is one of them.

    Raises ValueError if there are none.
    """
    if not ordered:
        raise ValueError("no percentile of nothing")
    return ordered[nearest_rank(ratio, len(ordered)) - 1]


@lru_cache(maxsize=1024)
def nearest_rank(ratio: float, count: int) -> int:
    """Return the nearest rank of a percentile among `count` ordered values, counted from 1."""
    # The rounding undoes what binary fractions add: 0.95 * 20 must be rank 19, never 20.
    return min(max(math.ceil(round(ratio * count, 9)), 1), count)


def maxima_of_parts(values: Sequence[float], parts: int) -> tuple[float, ...]:
    """Divide values into at most `parts` parts of nearly equal length, and return the maximum of each."""
    return tuple([max(values[part]) for part in equal_parts(len(values), min(parts, len(values)))])


@lru_cache(maxsize=1024)
def equal_parts(length: int, number: int) -> tuple[slice, ...]:
    """Return the slices that divide `length` values into `number` parts of nearly equal length.

    Cached, because most tests of a report have equally many values.
    """
    edges = [length * part // number for part in range(number + 1)] if number else []
    return tuple(slice(start, end) for start, end in pairwise(edges))

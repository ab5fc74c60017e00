"""Percentiles of what was measured. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

N = TypeVar("N", int, float)


def percentile(ordered: Sequence[N], ratio: float) -> N:
    """Nearest-rank percentile of values in ascending order: one of them. ValueError if there are none."""
    if not ordered:
        raise ValueError("no percentile of nothing")
    # The rounding undoes what binary fractions add: 0.95 * 20 must be rank 19, never 20.
    rank = math.ceil(round(ratio * len(ordered), 9))
    return ordered[min(max(rank, 1), len(ordered)) - 1]

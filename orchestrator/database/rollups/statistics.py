"""Summarise the distribution of measured values. Pure computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORY_POINTS = 12
"""Number of points of a short history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The count, maximum, mean and percentiles of values. Each figure but the mean is one of the values."""

    count: int
    maximum: float
    mean: float
    p50: float
    p95: float
    p99: float


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

"""A time series in fewer points that keep its shape, its ends and its peaks. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.model import Sample

THINNED_POINTS = 32


def thinned(series: Sequence[Sample], points: int = THINNED_POINTS) -> tuple[Sample, ...]:
    """At most `points` (3 or more) of the samples, in order: of each of several equal parts the first one and the
    one of most memory, and the last of all.
    """
    if len(series) <= points:
        return tuple(series)
    parts = (points - 1) // 2
    edges = [len(series) * part // parts for part in range(parts + 1)]
    kept = {place for start, end in pairwise(edges) for place in _of_part(series, start, end)}
    return tuple(series[place] for place in sorted(kept | {len(series) - 1}))


def _of_part(series: Sequence[Sample], start: int, end: int) -> Iterator[int]:
    yield start
    yield max(range(start, end), key=lambda place: series[place].memory_bytes or 0)

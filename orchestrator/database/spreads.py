"""Statistics of a window that is read partly by attempt, partly by day. Pure.

Count, maximum and mean are exact either way. Percentiles are exact where all is read by attempt, else within
0.05 % (`sketch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Self, TypeAlias, cast

from orchestrator.database.sketch import bucket, buckets, value_of
from orchestrator.database.statistics import Spread, history, percentile, spread

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Values:
    """A figure of attempts, in order of time."""

    values: Sequence[float]
    days: int

    @classmethod
    def of(cls, column: Sequence[float | None], *, days: int) -> Self | None:
        """What was measured; None if nothing was."""
        # Mostly nothing is missing, and a search for None takes a quarter of the time that a copy takes.
        known = [v for v in column if v is not None] if None in column else cast("Sequence[float]", column)
        return cls(known, days) if known else None

    @property
    def count(self) -> int:
        """Attempts."""
        return len(self.values)

    @property
    def total(self) -> float:
        """Sum over them."""
        return sum(self.values)

    @property
    def maximum(self) -> float:
        """The largest."""
        return max(self.values)

    def buckets(self) -> Sequence[int]:
        """As those of a sketch."""
        return [bucket(value) for value in self.values]

    def points(self) -> Sequence[float]:
        """One for each day or so."""
        return history(self.values, self.days)


@dataclass(frozen=True, slots=True)
class Days:
    """A figure summed up by day, in order of time: each day's maximum, and all days' sketches."""

    total: float
    maxima: Sequence[float]
    found: Sequence[int]
    """Buckets of all sketches."""

    @classmethod
    def of(
        cls,
        sums: Sequence[float | None],
        maxima: Sequence[float | None],
        sketches: Sequence[bytes | None],
    ) -> Self | None:
        """Of columns of `daily_usage`; None if nothing was measured."""
        if None in sums:
            measured = [s is not None for s in sums]
            sums = [s for s, is_there in zip(sums, measured, strict=True) if is_there]
            maxima = [m for m, is_there in zip(maxima, measured, strict=True) if is_there]
            sketches = [s for s, is_there in zip(sketches, measured, strict=True) if is_there]
        if not sums:
            return None
        known = cast("Sequence[float]", maxima)
        return cls(sum(cast("Sequence[float]", sums)), known, buckets(cast("Sequence[bytes]", sketches)))

    @property
    def maximum(self) -> float:
        """The largest."""
        return max(self.maxima)

    @property
    def count(self) -> int:
        """Attempts."""
        return len(self.found)

    def buckets(self) -> Sequence[int]:
        """Of all sketches."""
        return self.found

    def points(self) -> Sequence[float]:
        """One for each day."""
        return self.maxima


Part: TypeAlias = Values | Days


def spread_of(parts: Sequence[Part]) -> Spread:
    """Of all parts together. ValueError if there are none."""
    first, *others = parts
    if not others and isinstance(first, Values):
        return spread(first.values)
    ordered = _ordered(parts)
    count = sum(part.count for part in parts)
    maximum = max(part.maximum for part in parts)
    p50, p95, p99 = (min(value_of(percentile(ordered, ratio)), maximum) for ratio in (0.5, 0.95, 0.99))
    mean = sum(part.total for part in parts) / count
    return Spread(count=count, maximum=maximum, mean=mean, p50=p50, p95=p95, p99=p99)


def median(parts: Sequence[Part]) -> float | None:
    """Of all parts together; None if there are none."""
    if not parts:
        return None
    if len(parts) == 1 and isinstance(parts[0], Values):
        return percentile(sorted(parts[0].values), 0.5)
    return min(value_of(percentile(_ordered(parts), 0.5)), max(part.maximum for part in parts))


def history_of(parts: Sequence[Part]) -> tuple[float, ...]:
    """As `statistics.history`, of attempts or of days."""
    if len(parts) == 1 and isinstance(parts[0], Values):
        return history(parts[0].values)
    return history([point for part in parts for point in part.points()])


def _ordered(parts: Sequence[Part]) -> list[int]:
    return sorted(chain.from_iterable(part.buckets() for part in parts))

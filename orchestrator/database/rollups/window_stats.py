"""Statistics of a window that is read partly by attempt, partly by day. Pure.

Count, maximum and mean are exact either way. Percentiles are exact where all is read by attempt, else within
0.05 % (`sketch`).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar, cast

from orchestrator.database.rollups.monthly import maxima_of
from orchestrator.database.rollups.quantile_sketch import SortedKeys, count_of, keys, keys_of
from orchestrator.database.rollups.statistics import Distribution, distribution, downsample_maxima, percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttemptValues:
    """A figure of attempts, in order of time."""

    values: Sequence[float]
    days: int

    @classmethod
    def of(cls, column: Sequence[float | None], *, days: int) -> Self | None:
        """What was measured; None if nothing was."""
        known = _known(column)
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

    def keys(self) -> array[int]:
        """As those of a sketch."""
        return keys_of(self.values)

    def points(self) -> Sequence[float]:
        """One for each day or so."""
        return downsample_maxima(self.values, self.days)


@dataclass(frozen=True, slots=True)
class DailySums:
    """A figure summed up by day or by month, in order of time."""

    sums: Sequence[float]
    """Of each day or month."""
    maxima: Sequence[float]
    """Of each day."""
    sketches: Sequence[bytes]

    @classmethod
    def of(
        cls,
        sums: Sequence[float | None],
        maxima: Sequence[float | None],
        sketches: Sequence[bytes | None],
    ) -> Self | None:
        """Of columns of `daily_usage`; None if nothing was measured."""
        found = cls(_known(sums), _known(maxima), _known(sketches))
        return found if found.sums else None

    @classmethod
    def of_months(
        cls,
        sums: Sequence[float | None],
        maxima: Sequence[bytes | None],
        sketches: Sequence[bytes | None],
    ) -> Self | None:
        """Of columns of `monthly_usage`; None if nothing was measured."""
        found = cls(_known(sums), maxima_of(_known(maxima)), _known(sketches))
        return found if found.sums else None

    @classmethod
    def together(cls, parts: Sequence[DailySums]) -> DailySums:
        """All of them, in their order."""
        sums: list[float] = []
        maxima = array("d")
        sketches: list[bytes] = []
        for part in parts:
            sums += part.sums
            maxima.extend(part.maxima)
            sketches += part.sketches
        return cls(sums, maxima, sketches)

    @property
    def total(self) -> float:
        """Sum over all attempts."""
        return sum(self.sums)

    @property
    def maximum(self) -> float:
        """The largest."""
        return max(self.maxima)

    @property
    def count(self) -> int:
        """Attempts."""
        return count_of(self.keys())

    def keys(self) -> array[int]:
        """Of all sketches."""
        return keys(self.sketches)

    def points(self) -> Sequence[float]:
        """One for each day."""
        return self.maxima


def _known(column: Sequence[T | None]) -> Sequence[T]:
    """What was measured. Mostly nothing is missing: a search for None takes a quarter of the time of a copy."""
    return [value for value in column if value is not None] if None in column else cast("Sequence[T]", column)


Part: TypeAlias = AttemptValues | DailySums


def merge_adjacent(parts: Sequence[Part]) -> list[Part]:
    """DailySums that follow days as one part."""
    found: list[Part] = []
    for are_days, group in groupby(parts, key=lambda part: isinstance(part, DailySums)):
        some = list(group)
        found += [DailySums.together(cast("Sequence[DailySums]", some))] if are_days and len(some) > 1 else some
    return found


def window_distribution(parts: Sequence[Part], history: Sequence[float]) -> Distribution:
    """Of all parts together; `history`: `window_history` them, whose highest is theirs. ValueError for none."""
    first, *others = parts
    if not others and isinstance(first, AttemptValues):
        return distribution(first.values)
    ordered = _sorted_keys(parts)
    maximum = max(history)
    p50, p95, p99 = [min(ordered.percentile(ratio), maximum) for ratio in (0.5, 0.95, 0.99)]
    mean = sum([part.total for part in parts]) / ordered.count
    return Distribution(count=ordered.count, maximum=maximum, mean=mean, p50=p50, p95=p95, p99=p99)


def median(parts: Sequence[Part]) -> float | None:
    """Of all parts together; None if there are none."""
    if not parts:
        return None
    if len(parts) == 1 and isinstance(parts[0], AttemptValues):
        return percentile(sorted(parts[0].values), 0.5)
    return min(_sorted_keys(parts).percentile(0.5), max(part.maximum for part in parts))


def window_history(parts: Sequence[Part]) -> tuple[float, ...]:
    """As `statistics.downsample_maxima`, of attempts or of days."""
    if len(parts) == 1 and isinstance(parts[0], AttemptValues):
        return downsample_maxima(parts[0].values)
    return downsample_maxima(list(chain(*[part.points() for part in parts])))


def _sorted_keys(parts: Sequence[Part]) -> SortedKeys:
    first, *others = [part.keys() for part in parts]
    for keys_ in others:
        first.extend(keys_)
    return SortedKeys(first)

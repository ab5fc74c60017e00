"""Compute statistics of a figure over a window that is read partly by attempt and partly by day. Pure functions.

Count, maximum and mean are exact. Percentiles are exact where the whole window is read by attempt, otherwise
within 0.05 % (see `quantile_sketch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from orchestrator.database.rollups.quantile_sketch import SortedKeys, count_values, sketch_keys, value_keys
from orchestrator.database.rollups.statistics import HISTORY_POINTS, Distribution, distribution
from orchestrator.figures import known_values, maxima_of_parts

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttemptValues:
    """The values of a figure in single attempts, in order of time."""

    values: Sequence[float]
    days: int
    """The number of days that the attempts cover."""

    @classmethod
    def of(cls, column: Sequence[float | None], *, days: int) -> Self | None:
        """Return the values that were measured, or None if there are none."""
        known = known_values(column)
        return cls(known, days) if known else None

    @property
    def count(self) -> int:
        """The number of attempts in which the figure was measured."""
        return len(self.values)

    @property
    def total(self) -> float:
        """The sum over all attempts."""
        return sum(self.values)

    @property
    def maximum(self) -> float:
        """The largest value."""
        return max(self.values)

    def keys(self) -> array[int]:
        """Return the values as sketch keys, see `quantile_sketch.value_keys`."""
        return value_keys(self.values)

    def points(self) -> Sequence[float]:
        """Return about one value for each day: the maxima of groups of attempts."""
        return maxima_of_parts(self.values, self.days)


@dataclass(frozen=True, slots=True)
class DailySums:
    """The daily sums of a figure, in order of time."""

    sums: Sequence[float]
    """The sum of each day."""
    maxima: Sequence[float]
    """The maximum of each day."""
    sketches: Sequence[bytes]
    """The quantile sketch of each day."""

    @classmethod
    def of(
        cls,
        sums: Sequence[float | None],
        maxima: Sequence[float | None],
        sketches: Sequence[bytes | None],
    ) -> Self | None:
        """Make daily sums from columns of `daily_usage`; return None if nothing was measured."""
        found = cls(known_values(sums), known_values(maxima), known_values(sketches))
        return found if found.sums else None

    @property
    def count(self) -> int:
        """The number of attempts in which the figure was measured."""
        return count_values(self.keys())

    @property
    def total(self) -> float:
        """The sum over all attempts."""
        return sum(self.sums)

    @property
    def maximum(self) -> float:
        """The largest value."""
        return max(self.maxima)

    def keys(self) -> array[int]:
        """Return the keys of all sketches, see `quantile_sketch.sketch_keys`."""
        return sketch_keys(self.sketches)

    def points(self) -> Sequence[float]:
        """Return the maximum of each day."""
        return self.maxima


Part: TypeAlias = AttemptValues | DailySums


def window_distribution(parts: Sequence[Part]) -> Distribution:
    """Summarise a figure over all parts of a window. ValueError if there are no parts."""
    first, *others = parts
    if not others and isinstance(first, AttemptValues):
        return distribution(first.values)
    keys = first.keys()
    for part in others:
        keys.extend(part.keys())
    ordered = SortedKeys(keys)
    maximum = max([part.maximum for part in parts])
    # A sketch gives the middle of a bucket, which may lie above the largest value.
    p50, p95, p99 = [min(ordered.percentile(ratio), maximum) for ratio in (0.5, 0.95, 0.99)]
    mean = sum([part.total for part in parts]) / ordered.count
    return Distribution(count=ordered.count, maximum=maximum, mean=mean, p50=p50, p95=p95, p99=p99)


def window_history(parts: Sequence[Part]) -> tuple[float, ...]:
    """Return at most `HISTORY_POINTS` maxima of a figure over the parts of a window, in order of time."""
    if len(parts) == 1 and isinstance(parts[0], AttemptValues):
        return maxima_of_parts(parts[0].values, HISTORY_POINTS)
    return maxima_of_parts(list(chain(*[part.points() for part in parts])), HISTORY_POINTS)

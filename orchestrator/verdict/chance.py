"""Probabilities of what chance alone would do: two groups, the interval of a rate, many tests at once. Pure.

All tests are two-sided unless they say otherwise, and assume that attempts are independent of each other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

from orchestrator.verdict.gates import rank_chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ALMOST = 1 + 1e-9
"""Probabilities that differ by rounding only count as equal."""
_EXACT_WORK = 250
"""Up to this product of both groups' size and the smaller one's, ranks are counted exactly (about 10 ms)."""


def fisher(failed_with: int, with_: int, failed: int, total: int) -> float:
    """Fisher's exact test: the probability of a table at least as unlikely as this one, all margins given: of
    `total` attempts `failed` failed, and `failed_with` of the `with_` that had the circumstance.
    """
    first, chances = _tables(with_, failed, total)
    here = chances[failed_with - first]
    return min(sum(chance for chance in chances if chance <= here * _ALMOST), 1.0)


def fisher_more(failed_with: int, with_: int, failed: int, total: int) -> float:
    """One-sided: the probability that at least so many of the failures are among the `with_`."""
    first, chances = _tables(with_, failed, total)
    return min(sum(chances[failed_with - first :]), 1.0)


def least_fisher(with_: int, failed: int, total: int) -> float:
    """The smallest probability that `fisher` can give with these margins."""
    first, chances = _tables(with_, failed, total)
    return min(fisher(first, with_, failed, total), fisher(first + len(chances) - 1, with_, failed, total))


@lru_cache(maxsize=4096)
def _tables(with_: int, failed: int, total: int) -> tuple[int, tuple[float, ...]]:
    """The smallest possible number of failures with the circumstance, and the hypergeometric probability of it
    and each larger one.
    """
    first, last = max(0, with_ + failed - total), min(with_, failed)
    every = math.comb(total, failed)
    ways = (math.comb(with_, k) * math.comb(total - with_, failed - k) for k in range(first, last + 1))
    return first, tuple(way / every for way in ways)


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """The rank test of Mann and Whitney: the probability of rank sums at least as far apart. Exact for small
    groups; else by the normal distribution, corrected for ties and for continuity. 1 where a group is empty.
    """
    few, many = sorted((one, other), key=len)
    if not few or len({*one, *other}) == 1:
        return 1.0
    total = len(few) + len(many)
    if len(few) * total <= _EXACT_WORK:
        above = rank_chance(many, few)
        below = rank_chance([-value for value in many], [-value for value in few])
        return min(1.0, 2 * min(above, below))
    return _by_normal(few, many, total)


def _by_normal(few: Sequence[float], many: Sequence[float], total: int) -> float:
    every = sorted([*few, *many])
    rank: dict[float, float] = {}
    ties = start = 0
    while start < total:
        end = start
        while end < total and every[end] == every[start]:
            end += 1
        rank[every[start]] = (start + 1 + end) / 2
        ties += (end - start) ** 3 - (end - start)
        start = end
    size = len(few)
    u = sum(rank[value] for value in few) - size * (size + 1) / 2
    variance = size * len(many) / 12 * (total + 1 - ties / (total * (total - 1)))
    distance = max(abs(u - size * len(many) / 2) - 0.5, 0.0)
    return min(1.0, 2 * NormalDist().cdf(-distance / math.sqrt(variance)))


def wilson(failed: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a rate (Wilson 1927): true to its confidence also near 0 and 1 and for few attempts. (0, 1) for
    none.
    """
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, spread = failed / total, z * z / total
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    low = 0.0 if failed == 0 else max(middle - half, 0.0)
    return low, 1.0 if failed == total else min(middle + half, 1.0)


def effective_number(least: Iterable[float], level: float) -> int:
    """By how much probabilities have to be multiplied where many tests are made at once: tests whose smallest
    possible probability is too large to ever be found do not count (Tarone 1990). Keeps the probability of any
    false finding at or below `level`, as Bonferroni's correction does, and is smaller.
    """
    ordered = sorted(least)
    k = 1
    while sum(chance <= level / k for chance in ordered) > k:
        k += 1
    return k


def holm(chances: Sequence[float]) -> tuple[float, ...]:
    """Probabilities corrected for their number (Holm 1979), in the order given."""
    corrected = [1.0] * len(chances)
    most = 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        most = max(most, min(1.0, chances[index] * (len(chances) - place)))
        corrected[index] = most
    return tuple(corrected)

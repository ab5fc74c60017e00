"""Statistical tests of two groups, the interval of a rate, and corrections for many tests. Pure computation.

All tests return p-values and are two-sided unless stated otherwise. Stratified tests assume that attempts are
exchangeable within a stratum; the others assume that all attempts are independent.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ALMOST = 1 + 1e-9
"""Factor within which two probabilities count as equal, because they differ by rounding only."""
_EXACT_STRATA = 120
"""Largest number of attempts for which the stratified test is exact."""
_EXACT_WORK = 250
"""Largest product of the size of both groups and that of the smaller one for an exact rank test (about 10 ms)."""


def fisher(failed_with: int, with_: int, failed: int, total: int) -> float:
    """Return the p-value of Fisher's exact test: the probability of a table that is at most as likely as this one.

    Of `total` attempts `failed` failed; `with_` attempts had the circumstance, and `failed_with` of these failed.
    """
    first, chances = _tables(with_, failed, total)
    here = chances[failed_with - first]
    return min(sum(chance for chance in chances if chance <= here * _ALMOST), 1.0)


def fisher_one_sided(failed_with: int, with_: int, failed: int, total: int) -> float:
    """Return the one-sided p-value: the probability of at least `failed_with` failures with the circumstance."""
    first, chances = _tables(with_, failed, total)
    return min(sum(chances[failed_with - first :]), 1.0)


def fisher_minimum(with_: int, failed: int, total: int) -> float:
    """Return the smallest p-value that `fisher` can return with these margins."""
    first, chances = _tables(with_, failed, total)
    return min(fisher(first, with_, failed, total), fisher(first + len(chances) - 1, with_, failed, total))


@lru_cache(maxsize=4096)
def _tables(with_: int, failed: int, total: int) -> tuple[int, tuple[float, ...]]:
    """Return the smallest possible number of failures with the circumstance, and the hypergeometric probabilities
    of that number and of each larger one.
    """
    first, last = max(0, with_ + failed - total), min(with_, failed)
    every = math.comb(total, failed)
    ways = (math.comb(with_, k) * math.comb(total - with_, failed - k) for k in range(first, last + 1))
    return first, tuple(way / every for way in ways)


Stratum = tuple[int, int, int]
"""Number of attempts, of attempts with the circumstance, and of failed attempts."""


def stratified_fisher(strata: Sequence[Stratum], failed_with: int) -> tuple[float, float]:
    """Return the p-value of Fisher's test within strata (exact Mantel-Haenszel), and the smallest possible
    p-value.

    `failed_with` is the number of failures with the circumstance in all strata together. With more than
    `_EXACT_STRATA` attempts the normal approximation is used.
    """
    if sum(total for total, _, _ in strata) > _EXACT_STRATA:
        return _stratified_by_normal(strata, failed_with)
    first, chances = 0, [1.0]
    for total, with_, failed in strata:
        least, tables = _tables(with_, failed, total)
        first += least
        chances = _convolved(chances, tables)

    def at(index: int) -> float:
        here = chances[index]
        return min(sum(chance for chance in chances if chance <= here * _ALMOST), 1.0)

    return at(failed_with - first), min(at(0), at(len(chances) - 1))


def _convolved(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the probabilities of the sum of two independent numbers from the probabilities of each."""
    result = [0.0] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            result[i + j] += a * b
    return result


def _stratified_by_normal(strata: Sequence[Stratum], failed_with: int) -> tuple[float, float]:
    mean = variance = 0.0
    first = last = 0
    for total, with_, failed in strata:
        mean += with_ * failed / total
        variance += with_ * failed * (total - with_) * (total - failed) / (total * total * max(total - 1, 1))
        first += max(0, with_ + failed - total)
        last += min(with_, failed)
    if variance == 0:
        return 1.0, 1.0
    furthest = max(mean - first, last - mean)
    return _two_sided(abs(failed_with - mean) - 0.5, variance), _two_sided(furthest - 0.5, variance)


def _two_sided(distance: float, variance: float) -> float:
    return min(1.0, 2 * NormalDist().cdf(-max(distance, 0.0) / math.sqrt(variance)))


def van_elteren(strata: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Return the p-value of the rank test within strata (van Elteren 1960), by the normal approximation.

    Each stratum has the figures of its failures and those of its passes. 1 if no stratum has both.
    """
    distance = variance = 0.0
    for bad, good in strata:
        total = len(bad) + len(good)
        if bad and good:
            mean, own_variance = len(bad) * (total + 1) / 2, _rank_variance(bad, good)
            distance += (_rank_sum(bad, good) - mean) / (total + 1)
            variance += own_variance / (total + 1) ** 2
    return _two_sided(abs(distance), variance) if variance > 0 else 1.0


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the p-value of the rank test of Mann and Whitney; 1 if a group is empty.

    It is exact for small groups, else a normal approximation with corrections for ties and continuity.
    """
    few, many = sorted((one, other), key=len)
    if not few or len({*one, *other}) == 1:
        return 1.0
    total = len(few) + len(many)
    if len(few) * total <= _EXACT_WORK:
        above = rank_sum_tail(many, few)
        below = rank_sum_tail([-value for value in many], [-value for value in few])
        return min(1.0, 2 * min(above, below))
    return _by_normal(few, many, total)


def _by_normal(few: Sequence[float], many: Sequence[float], total: int) -> float:
    distance = abs(_rank_sum(few, many) - len(few) * (total + 1) / 2) - 0.5
    return _two_sided(distance, _rank_variance(few, many))


def _rank_sum(few: Sequence[float], many: Sequence[float]) -> float:
    """Return the sum of the ranks of `few` among all values; equal values get their mean rank."""
    rank = {value: (start + 1 + end) / 2 for value, start, end in _runs_of([*few, *many])}
    return sum(rank[value] for value in few)


def _rank_variance(few: Sequence[float], many: Sequence[float]) -> float:
    total = len(few) + len(many)
    ties = sum((end - start) ** 3 - (end - start) for _, start, end in _runs_of([*few, *many]))
    return len(few) * len(many) / 12 * (total + 1 - ties / (total * (total - 1)))


def _runs_of(values: Sequence[float]) -> Iterator[tuple[float, int, int]]:
    """Yield each distinct value with its first position in sorted order and the position after its last."""
    start = 0
    for value, group in itertools.groupby(sorted(values)):
        end = start + sum(1 for _ in group)
        yield value, start, end
        start = end


def wilson_interval(failed: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of a rate (Wilson 1927), which is accurate near 0 and 1 and for few attempts
    too.

    (0, 1) if there are no attempts.
    """
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, spread = failed / total, z * z / total
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    low = 0.0 if failed == 0 else max(middle - half, 0.0)
    return low, 1.0 if failed == total else min(middle + half, 1.0)


def tarone_factor(least: Iterable[float], level: float) -> int:
    """Return the factor by which the p-values of many tests are multiplied (Tarone 1990).

    `least` has the smallest possible p-value of each test. A test that can never be significant does not count, so
    the factor is at most Bonferroni's and still keeps the probability of any false finding at or below `level`.
    """
    ordered = sorted(least)
    k = 1
    while sum(chance <= level / k for chance in ordered) > k:
        k += 1
    return k


def holm(chances: Sequence[float]) -> tuple[float, ...]:
    """Return the p-values corrected for their number (Holm 1979), in the given order."""
    corrected = [1.0] * len(chances)
    most = 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        most = max(most, min(1.0, chances[index] * (len(chances) - place)))
        corrected[index] = most
    return tuple(corrected)


def rank_sum_tail(old: Sequence[float], new: Sequence[float]) -> float:
    """Return the exact one-sided p-value of the rank sum of `new`: the probability of one at least as high.

    All orders are equally likely; equal values get their mean rank.
    """
    every = sorted([*old, *new])
    doubled: dict[float, int] = {}
    start = 0
    while start < len(every):
        end = start
        while end < len(every) and every[end] == every[start]:
            end += 1
        doubled[every[start]] = start + 1 + end  # twice the mean of ranks start+1 .. end
        start = end
    total = sum(doubled[value] for value in new)
    return _upper_tail(tuple(doubled[value] for value in every), len(new), total)


@lru_cache(maxsize=256)
def _upper_tail(doubled_ranks: tuple[int, ...], size: int, total: int) -> float:
    """Return the share of all choices of `size` ranks whose sum is at least `total`."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for rank in doubled_ranks:
        for taken in range(size, 0, -1):
            here = ways[taken]
            for subtotal, number in ways[taken - 1].items():
                here[subtotal + rank] = here.get(subtotal + rank, 0) + number
    above = sum(number for subtotal, number in ways[size].items() if subtotal >= total)
    return above / math.comb(len(doubled_ranks), size)

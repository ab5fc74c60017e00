"""Has a test become hungrier than it was? A decision over several runs that noise does not move. Pure.

Four conditions, all of them needed (docs/design/gates.md, with the measured error rates): enough runs; growth
above the tolerance and above what is worth a word, by the Hodges-Lehmann estimate (the median of all ratios of a
new run to an old one); an exact rank test (Mann and Whitney 1947) against chance, which assumes no shape of the
noise; and growth above the noise floor that the history teaches, for noise that is not independent from run to
run: a slow hour, another machine. Old runs are carried forward along their own drift first.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.model_reports import Comparison, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

MINIMUM_NEW_RUNS = 3
"""Fewer cannot be told from chance: of 50 old runs and 2 new ones, the 2 are the highest once in 1,326 cases."""
MINIMUM_OLD_RUNS = 20
MAXIMUM_NEW_RUNS = 5
MAXIMUM_OLD_RUNS = 50
SIGNIFICANCE = 0.0003
"""Of the rank test, one-sided."""


FLOOR_ERRORS = 3.5
"""Standard errors that the noise floor is high, where runs are independent: the rank test does the rest."""
FLOOR_ERRORS_ALIKE = 6.0
"""Where runs resemble the ones before them, of which the rank test knows nothing."""
LEAST_LIKENESS = 0.25
"""Correlation of neighbours; chance alone makes as much in one of 25 histories of 50 runs."""
NORMAL_TENTHS = 2.563
"""Standard deviations between the lowest and the highest tenth of a normal distribution."""
SLOPE_ERROR = 3.46
"""Standard error of the slope of independent values, times their number to the power of 1.5, in units of their own
standard deviation (least squares: the root of 12).
"""


def compare(old: Sequence[float], new: Sequence[float], *, tolerance: float, minimum: float) -> Comparison:
    """Judge the newest `MAXIMUM_NEW_RUNS` of `new` against the newest `MAXIMUM_OLD_RUNS` of `old`, both newest
    first, one value a run. `tolerance`: growth that is allowed (0.1: 10 %); `minimum`: growth in the figure's own
    unit below which nothing is said.
    """
    before, after = old[:MAXIMUM_OLD_RUNS], new[:MAXIMUM_NEW_RUNS]
    if not before or not after:
        return _judged(Judgement.TOO_FEW, before, after)
    growth = estimate(before, after)
    if len(before) < MINIMUM_OLD_RUNS:
        return _judged(Judgement.TOO_FEW, before, after, growth=growth)
    if growth > tolerance and median(after) - median(before) >= minimum:
        carried = carried_forward(before, len(after))  # only here: it costs a thousand slopes
        growth = estimate(carried, after)
    else:
        carried = before
    if growth <= tolerance or median(after) - median(carried) < minimum:
        enough = len(after) >= MINIMUM_NEW_RUNS
        return _judged(Judgement.UNCHANGED if enough else Judgement.TOO_FEW, before, after, growth=growth)
    floor = noise_floor(carried, len(after))
    if len(after) < MINIMUM_NEW_RUNS:
        judgement = Judgement.SUSPECTED if growth > floor else Judgement.TOO_FEW
        return _judged(judgement, before, after, growth=growth, floor=floor)
    chance = rank_chance(carried, after)
    grown = chance <= SIGNIFICANCE and growth > floor
    judgement = Judgement.GROWN if grown else Judgement.UNCHANGED
    return _judged(judgement, before, after, growth=growth, floor=floor, chance=chance)


def estimate(old: Sequence[float], new: Sequence[float]) -> float:
    """Growth by the Hodges-Lehmann estimate of the shift between logarithms; up to 29 % of the values may be
    anything. Values that are not positive count as the smallest positive one.
    """
    least = min((value for value in (*old, *new) if value > 0), default=1.0)
    before, after = [max(value, least) for value in old], [max(value, least) for value in new]
    return median(b / a for b in after for a in before) - 1


def carried_forward(old: Sequence[float], width: int) -> Sequence[float]:
    """The old runs (newest first) as they would be at the middle of the `width` runs that follow, if they grow: a
    drift of the history is no fault of the new runs. The slope of the logarithms is that of Theil and Sen, less
    a quarter of its standard error.
    """
    logs = _logarithms(old)
    slopes = [(logs[i] - logs[j]) / (j - i) for i in range(len(logs)) for j in range(i + 1, len(logs))]
    slope = median(slopes)
    error = SLOPE_ERROR * _sigma([value + slope * age for age, value in enumerate(logs)]) / len(logs) ** 1.5
    slope = max(0.0, slope - error / 4)
    ahead = (width + 1) / 2
    return [math.exp(value + slope * (age + ahead)) for age, value in enumerate(logs)]


def noise_floor(old: Sequence[float], width: int) -> float:
    """Growth that `width` runs in a row may show without a cause: 3.5 standard errors of a comparison by the
    median absolute deviation of the logarithms; six, of a larger error, where runs resemble the ones before.
    """
    logs = _logarithms(old)
    likeness = _likeness(logs)
    variance = _mean_variance(likeness, width) + _mean_variance(likeness, len(logs))
    errors = FLOOR_ERRORS_ALIKE if likeness else FLOOR_ERRORS
    sigma = _sigma(logs)
    if likeness:  # runs that stay on one level for long: the median deviation may know that level only
        ordered, tenth = sorted(logs), len(logs) // 10
        sigma = max(sigma, (ordered[-1 - tenth] - ordered[tenth]) / NORMAL_TENTHS)
    return math.expm1(errors * sigma * math.sqrt(variance))


def _sigma(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation (the factor makes it that of a normal distribution)."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def _logarithms(values: Sequence[float]) -> list[float]:
    least = min((value for value in values if value > 0), default=1.0)
    return [math.log(max(value, least)) for value in values]


def _likeness(values: Sequence[float]) -> float:
    """Correlation of ranks between each run and the next; 0 below what chance alone makes often."""
    every = sorted(values)
    ranks = [bisect_left(every, value) + bisect_right(every, value) for value in values]
    mean = sum(ranks) / len(ranks)
    total = sum((rank - mean) ** 2 for rank in ranks)
    if total == 0:
        return 0.0
    found = sum((a - mean) * (b - mean) for a, b in pairwise(ranks)) / total
    return min(found, 0.9) if found > LEAST_LIKENESS else 0.0


def _mean_variance(likeness: float, count: int) -> float:
    """Variance of the mean of so many runs in a row, in units of one run's, if each resembles the one before:
    an autoregressive process (Box and Jenkins 1970).
    """
    inflation = 1 + 2 * sum((1 - lag / count) * likeness**lag for lag in range(1, count))
    return inflation / count


def rank_chance(old: Sequence[float], new: Sequence[float]) -> float:
    """The exact probability that the new runs' rank sum is as high as it is, if all orders are equally likely
    (one-sided; equal values share their mean rank).
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
    """Share of all choices of `size` ranks whose sum is at least `total`."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for rank in doubled_ranks:
        for taken in range(size, 0, -1):
            here = ways[taken]
            for subtotal, number in ways[taken - 1].items():
                here[subtotal + rank] = here.get(subtotal + rank, 0) + number
    above = sum(number for subtotal, number in ways[size].items() if subtotal >= total)
    return above / math.comb(len(doubled_ranks), size)


def _judged(
    judgement: Judgement,
    old: Sequence[float],
    new: Sequence[float],
    *,
    growth: float | None = None,
    floor: float | None = None,
    chance: float | None = None,
) -> Comparison:
    missing = max(MINIMUM_OLD_RUNS - len(old), 0) + max(MINIMUM_NEW_RUNS - len(new), 0)
    return Comparison(
        judgement=judgement,
        before=median(old) if old else None,
        now=median(new) if new else None,
        growth=growth,
        noise_floor=floor,
        chance=chance,
        old_runs=len(old),
        new_runs=len(new),
        missing_runs=missing,
    )

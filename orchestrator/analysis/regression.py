"""Detection of resource regressions: growth of a figure over several runs beyond its noise.

Machines are compared with themselves, old runs carried forward along their own drift. Then a test has grown if the
most likely growth is above the tolerance and worth a word, and its runs are so many times more likely with such
growth than without (`evidence`). docs/design/analysis/regression.md has the measured error rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.analysis.likelihood import evidence, likeness
from orchestrator.model.regression import Comparison, Judgement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MINIMUM_NEW_RUNS = 3
"""Fewer cannot be told from chance: of 50 old runs and 2 new ones, the 2 are the highest once in 1,326 cases."""
MINIMUM_OLD_RUNS = 20
MAXIMUM_NEW_RUNS = 5
MAXIMUM_OLD_RUNS = 50
LEAST_WEIGHT = 6.0
"""Natural logarithm of how much more likely the new runs must be with growth than without: 403 times."""
LEAST_WEIGHT_ALIKE = 7.0
"""Where runs resemble the ones before them: how much is an estimate too."""
LEAST_OF_A_MACHINE = 10
"""Old runs that a machine needs to be compared with itself."""
FLOOR_ERRORS = 3.5
"""Standard errors that growth of one or two runs must have to be suspected, where runs are independent."""
FLOOR_ERRORS_ALIKE = 6.0
"""Where runs resemble the ones before them."""
NORMAL_TENTHS = 2.563
"""Standard deviations between the lowest and the highest tenth of a normal distribution."""
SLOPE_ERROR = 3.46
"""Standard error of the slope of independent values, times their number to the power of 1.5, in units of their own
standard deviation (least squares: the root of 12).
"""


def compare(
    old: Sequence[float],
    new: Sequence[float],
    *,
    tolerance: float,
    minimum: float,
    machines: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Comparison:
    """Judge the newest `MAXIMUM_NEW_RUNS` of `new` against the newest `MAXIMUM_OLD_RUNS` of `old`, both newest
    first, one value a run. `tolerance`: growth that is allowed (0.1: 10 %); `minimum`: growth in the figure's own
    unit below which nothing is said; `machines`: where each old and each new run was, None: all on one.
    """
    if machines is not None:
        old, new = like_with_like(old, new, machines)
    before, after = old[:MAXIMUM_OLD_RUNS], new[:MAXIMUM_NEW_RUNS]
    if not before or not after:
        return _judged(Judgement.TOO_FEW, before, after)
    growth = estimate(before, after)
    if len(before) < MINIMUM_OLD_RUNS:
        return _judged(Judgement.TOO_FEW, before, after, growth=growth)
    enough = len(after) >= MINIMUM_NEW_RUNS
    calm = Judgement.UNCHANGED if enough else Judgement.TOO_FEW
    if not _may_have_grown(growth, before, after, tolerance=tolerance, minimum=minimum):
        return _judged(calm, before, after, growth=growth)
    carried = carried_forward(before, len(after))  # only here: it costs a thousand slopes
    growth = estimate(carried, after)
    if not _may_have_grown(growth, carried, after, tolerance=tolerance, minimum=minimum):
        return _judged(calm, before, after, growth=growth)
    floor = noise_floor(carried, len(after))
    if not enough:
        judgement = Judgement.SUSPECTED if growth > max(floor, tolerance) else Judgement.TOO_FEW
        return _judged(judgement, before, after, growth=growth, floor=floor)
    logs = _logarithms([*carried, *after])
    found = evidence(logs[: len(carried)][::-1], logs[len(carried) :][::-1], tolerance=tolerance)
    least = LEAST_WEIGHT_ALIKE if found.alike else LEAST_WEIGHT
    grown = found.weight >= least and found.growth > tolerance * 1.001
    judgement = Judgement.GROWN if grown else Judgement.UNCHANGED
    chance = min(1.0, math.exp(-found.weight))
    return _judged(judgement, before, after, growth=found.growth if grown else growth, floor=floor, chance=chance)


def _may_have_grown(
    growth: float, old: Sequence[float], new: Sequence[float], *, tolerance: float, minimum: float
) -> bool:
    """Whether it is worth the work: where a history has two modes, this estimate is a rough one."""
    return growth > tolerance / 4 and median(new) - median(old) >= minimum


def like_with_like(
    old: Sequence[float], new: Sequence[float], machines: tuple[Sequence[str], Sequence[str]]
) -> tuple[Sequence[float], Sequence[float]]:
    """All runs as they would be on the machine of the newest one, by the machines' medians; runs on a machine of
    which less than `LEAST_OF_A_MACHINE` old ones are known are left out, unless it is the only one.
    """
    old_at, new_at = machines
    if not old or not new or len({*old_at, *new_at}) == 1:
        return old, new
    by_machine: dict[str, list[float]] = defaultdict(list)
    for value, machine in zip(old, old_at, strict=True):
        by_machine[machine].append(value)
    usual = {
        machine: median(values)
        for machine, values in by_machine.items()
        if len(values) >= LEAST_OF_A_MACHINE and median(values) > 0
    }
    here = next((machine for machine in new_at if machine in usual), None)
    if here is None:
        return [], []
    factors = {machine: usual[here] / value for machine, value in usual.items()}
    return _moved(old, old_at, factors), _moved(new, new_at, factors)


def _moved(values: Sequence[float], at: Sequence[str], factors: Mapping[str, float]) -> Sequence[float]:
    return [v * factors[machine] for v, machine in zip(values, at, strict=True) if machine in factors]


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
    alike = likeness(logs)
    variance = _mean_variance(alike, width) + _mean_variance(alike, len(logs))
    errors = FLOOR_ERRORS_ALIKE if alike else FLOOR_ERRORS
    sigma = _sigma(logs)
    if alike:  # runs that stay on one level for long: the median deviation may know that level only
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


def _mean_variance(alike: float, count: int) -> float:
    """Variance of the mean of so many runs in a row, in units of one run's, if each resembles the one before:
    an autoregressive process (Box and Jenkins 1970).
    """
    inflation = 1 + 2 * sum((1 - lag / count) * alike**lag for lag in range(1, count))
    return inflation / count


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

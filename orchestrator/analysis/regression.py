"""Detection of resource regressions: growth of a figure over several runs beyond its noise. Pure computation.

Figures are scaled to one machine, and the drift of the old runs is extrapolated to the new ones. A test has grown
if the most likely growth is above the tolerance and the minimum, and the likelihood ratio of such growth is large
enough. docs/design/analysis/regression.md has the measured error rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.analysis.likelihood import autocorrelation, likelihood_ratio
from orchestrator.model.regression import Comparison, Judgement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MINIMUM_NEW_RUNS = 3
"""Smallest number of new runs for a judgement. With fewer, chance cannot be ruled out: of 50 old and 2 new runs
without growth, the 2 are the highest once in 1,326 cases.
"""
MINIMUM_OLD_RUNS = 20
MAXIMUM_NEW_RUNS = 5
MAXIMUM_OLD_RUNS = 50
MINIMUM_LOG_RATIO = 6.0
"""Smallest natural logarithm of the likelihood ratio for a judgement of growth: 403 times as likely as without."""
MINIMUM_LOG_RATIO_AUTOCORRELATED = 7.0
"""The limit where successive runs are correlated. It is higher, because the correlation is an estimate too."""
MINIMUM_MACHINE_RUNS = 10
"""Smallest number of old runs of a machine from which its usual figure is computed."""
FLOOR_ERRORS = 3.5
"""Number of standard errors from which on growth of one or two new runs is suspected; for independent runs."""
FLOOR_ERRORS_AUTOCORRELATED = 6.0
"""Number of standard errors where successive runs are correlated."""
NORMAL_TENTHS = 2.563
"""Distance between the 10th and 90th percentile of a normal distribution, in standard deviations."""
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
    """Compare the newest `MAXIMUM_NEW_RUNS` of `new` with the newest `MAXIMUM_OLD_RUNS` of `old`.

    Both have one value for each run, newest first. `tolerance` is the growth that is allowed (0.1: 10 %),
    `minimum` the smallest growth, in the figure's unit, that is reported. `machines` names the machine of each old
    and each new run; None: all ran on one.
    """
    if machines is not None:
        old, new = on_one_machine(old, new, machines)
    before, after = old[:MAXIMUM_OLD_RUNS], new[:MAXIMUM_NEW_RUNS]
    if not before or not after:
        return _comparison(Judgement.TOO_FEW, before, after)
    growth = estimate_growth(before, after)
    if len(before) < MINIMUM_OLD_RUNS:
        return _comparison(Judgement.TOO_FEW, before, after, growth=growth)
    enough = len(after) >= MINIMUM_NEW_RUNS
    calm = Judgement.UNCHANGED if enough else Judgement.TOO_FEW
    if not _may_have_grown(growth, before, after, tolerance=tolerance, minimum=minimum):
        return _comparison(calm, before, after, growth=growth)
    carried = extrapolate_drift(before, len(after))  # not earlier: it computes a thousand slopes
    growth = estimate_growth(carried, after)
    if not _may_have_grown(growth, carried, after, tolerance=tolerance, minimum=minimum):
        return _comparison(calm, before, after, growth=growth)
    floor = noise_floor(carried, len(after))
    if not enough:
        judgement = Judgement.SUSPECTED if growth > max(floor, tolerance) else Judgement.TOO_FEW
        return _comparison(judgement, before, after, growth=growth, floor=floor)
    logs = _logarithms([*carried, *after])
    found = likelihood_ratio(logs[: len(carried)][::-1], logs[len(carried) :][::-1], tolerance=tolerance)
    least = MINIMUM_LOG_RATIO_AUTOCORRELATED if found.autocorrelated else MINIMUM_LOG_RATIO
    grown = found.log_ratio >= least and found.growth > tolerance * 1.001
    judgement = Judgement.GROWN if grown else Judgement.UNCHANGED
    chance = min(1.0, math.exp(-found.log_ratio))
    return _comparison(
        judgement, before, after, growth=found.growth if grown else growth, floor=floor, chance=chance
    )


def _may_have_grown(
    growth: float, old: Sequence[float], new: Sequence[float], *, tolerance: float, minimum: float
) -> bool:
    """Return True if the growth has to be examined. The limit is low because this estimate is inexact."""
    return growth > tolerance / 4 and median(new) - median(old) >= minimum


def on_one_machine(
    old: Sequence[float], new: Sequence[float], machines: tuple[Sequence[str], Sequence[str]]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return old and new runs scaled by the machines' medians to the machine of the newest run.

    Runs on a machine with fewer than `MINIMUM_MACHINE_RUNS` old runs are left out, unless it is the only machine.
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
        if len(values) >= MINIMUM_MACHINE_RUNS and median(values) > 0
    }
    here = next((machine for machine in new_at if machine in usual), None)
    if here is None:
        return [], []
    factors = {machine: usual[here] / value for machine, value in usual.items()}
    return _scaled(old, old_at, factors), _scaled(new, new_at, factors)


def _scaled(values: Sequence[float], at: Sequence[str], factors: Mapping[str, float]) -> Sequence[float]:
    return [v * factors[machine] for v, machine in zip(values, at, strict=True) if machine in factors]


def estimate_growth(old: Sequence[float], new: Sequence[float]) -> float:
    """Return the growth as the Hodges-Lehmann estimate of the shift between logarithms (0.1: 10 % more).

    Up to 29 % of the values may be outliers. Values that are not positive count as the smallest positive one.
    """
    least = min((value for value in (*old, *new) if value > 0), default=1.0)
    before, after = [max(value, least) for value in old], [max(value, least) for value in new]
    return median(b / a for b in after for a in before) - 1


def extrapolate_drift(old: Sequence[float], width: int) -> Sequence[float]:
    """Return the old runs (newest first) moved along their own upward drift to the middle of the next `width`
    runs.

    Growth that only continues the drift of the history is then not counted. The slope of the logarithms is that of
    Theil and Sen, less a quarter of its standard error; a downward slope counts as none.
    """
    logs = _logarithms(old)
    slopes = [(logs[i] - logs[j]) / (j - i) for i in range(len(logs)) for j in range(i + 1, len(logs))]
    slope = median(slopes)
    error = SLOPE_ERROR * _sigma([value + slope * age for age, value in enumerate(logs)]) / len(logs) ** 1.5
    slope = max(0.0, slope - error / 4)
    ahead = (width + 1) / 2
    return [math.exp(value + slope * (age + ahead)) for age, value in enumerate(logs)]


def noise_floor(old: Sequence[float], width: int) -> float:
    """Return the growth that `width` successive runs may show by chance (0.1: 10 %).

    It is `FLOOR_ERRORS` standard errors, with the standard deviation from the median absolute deviation of the
    logarithms. Where successive runs are correlated, more and larger errors are used.
    """
    logs = _logarithms(old)
    correlation = autocorrelation(logs)
    variance = _mean_variance(correlation, width) + _mean_variance(correlation, len(logs))
    errors = FLOOR_ERRORS_AUTOCORRELATED if correlation else FLOOR_ERRORS
    sigma = _sigma(logs)
    if correlation:  # the median deviation may cover only the level on which most runs stayed
        ordered, tenth = sorted(logs), len(logs) // 10
        sigma = max(sigma, (ordered[-1 - tenth] - ordered[tenth]) / NORMAL_TENTHS)
    return math.expm1(errors * sigma * math.sqrt(variance))


def _sigma(values: Sequence[float]) -> float:
    """Return the standard deviation of a normal distribution with the same median absolute deviation."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def _logarithms(values: Sequence[float]) -> list[float]:
    least = min((value for value in values if value > 0), default=1.0)
    return [math.log(max(value, least)) for value in values]


def _mean_variance(correlation: float, count: int) -> float:
    """Return the variance of the mean of `count` successive runs, in units of the variance of one run.

    `correlation` is that of successive runs, an autoregressive process (Box and Jenkins 1970).
    """
    inflation = 1 + 2 * sum((1 - lag / count) * correlation**lag for lag in range(1, count))
    return inflation / count


def _comparison(
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

"""The best that any gate could do with five runs: Neyman and Pearson's test with exact knowledge of the noise.

Between no growth and growth of 15 %, the likelihood ratio is the most powerful test (1933). It knows what no gate
knows: the shape and strength of the noise, the machine of each run, the level of the run before, the drift, and
that growth is either 0 or 15 %. What it does not find, no gate can find.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNS = 5
LEVEL = 0.001
"""The rate of false alarms, for five runs."""
STEP = 0.04
FACTORS = [2 + 3 * (n + 0.5) / 40 for n in range(40)]
"""The factors of outliers, which take two to five times as much."""


def _normal(value: float, sigma: float) -> float:
    return math.exp(-((value / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))


def _t3(value: float, sigma: float) -> float:
    return 2 / (math.pi * math.sqrt(3) * sigma * (1 + (value / sigma) ** 2 / 3) ** 2)


def _two_modes(value: float, sigma: float) -> float:
    return 0.7 * _normal(value, sigma) + 0.3 * _normal(value - math.log(1.4), sigma)


def _with_outliers(value: float, sigma: float) -> float:
    far = sum(_normal(value - math.log(factor), sigma) for factor in FACTORS) / len(FACTORS)
    return 0.95 * _normal(value, sigma) + 0.05 * far


def _below(value: float, sigma: float) -> float:
    return 0.5 * (1 + math.erf(value / sigma / math.sqrt(2))) if value > -math.inf else 0.0


def _steps(figure: float, sigma: float, growth: float) -> float:
    """Return the probability of a figure that is rounded to steps of 4 %."""
    edges = [figure - STEP / 2, figure + STEP / 2]
    low, high = (math.log(edge / (1 + growth)) if edge > 0 else -math.inf for edge in edges)
    return _below(high, sigma) - _below(low, sigma)


DENSITIES: dict[str, Callable[[float, float], float]] = {
    "lognormal": _normal,
    "heavy-tailed": _t3,
    "bimodal": _two_modes,
    "outliers": _with_outliers,
    "drift": _normal,
    "two hosts": _normal,
    "wandering": lambda value, sigma: _normal(value, sigma * math.sqrt(1 - 0.49)),
}


def _weight(shape: str, logs: Sequence[float], sigma: float, growth: float) -> float:
    """Return the logarithm of the likelihood ratio; for `wandering` the first value is the run before."""
    if shape == "quantised":
        figures = [math.exp(value) for value in logs]
        pairs = [(_steps(f, sigma, growth), _steps(f, sigma, 0.0)) for f in figures]
    else:
        density, shift = DENSITIES[shape], math.log1p(growth)
        if shape == "wandering":
            alone = [after - 0.7 * before for before, after in pairwise(logs)]
            shifts = [shift, *[0.3 * shift] * (RUNS - 1)]
        else:
            alone, shifts = list(logs), [shift] * RUNS
        pairs = [(density(v - s, sigma), density(v, sigma)) for v, s in zip(alone, shifts, strict=True)]
    return sum(math.log(max(grown, 1e-300)) - math.log(max(same, 1e-300)) for grown, same in pairs)


def power(
    shape: str,
    sigma: float,
    sample: Callable[[random.Random, int, float], list[float]],
    *,
    growth: float,
    tests: int,
    seed: int,
) -> float:
    """Return the share of grown tests that the test finds. `sample` makes runs of a shape, without drift and on
    one machine.
    """
    chance = random.Random(f"oracle {shape} {sigma} {seed}")

    def logs(factor: float) -> list[float]:
        if shape == "wandering":
            before, *new = sample(chance, RUNS + 1, sigma)
            return [math.log(before), *(math.log(value * factor) for value in new)]
        new = [value * factor for value in sample(chance, RUNS, sigma)]
        if shape == "quantised":
            new = [max(round(value / STEP), 1) * STEP for value in new]
        return [math.log(value) for value in new]

    same = sorted(_weight(shape, logs(1.0), sigma, growth) for _ in range(20 * tests))
    threshold = same[min(math.ceil(len(same) * (1 - LEVEL)), len(same) - 1)]
    grown = [_weight(shape, logs(1 + growth), sigma, growth) for _ in range(tests)]
    return sum(weight > threshold for weight in grown) / tests

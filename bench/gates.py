"""How often `orch check` is wrong: unchanged tests that it flags, and real growth that it misses.

Each simulated test has 50 runs of history and five new ones; the gate is evaluated after each new run, as CI does.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from math import exp, log1p
from pathlib import Path
from typing import TYPE_CHECKING

from bench.best_possible_gate import STEP, power
from orchestrator.analysis.regression import compare
from orchestrator.model.regression import Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD, NEW = 50, 5
BEST_GATE_GROWTH = 0.15
BEST_GATE_LINES = (
    "In brackets: what the best possible test of five runs catches, which knows the noise exactly and is wrong",
    "once in 1,000 (`bench/best_possible_gate.py`). No gate can do better.",
    "",
)


def lognormal(chance: random.Random, count: int, sigma: float) -> list[float]:
    return [exp(chance.gauss(0, sigma)) for _ in range(count)]


def heavy_tailed(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values whose logarithms have Student's t distribution with 3 degrees of freedom."""
    found = []
    for _ in range(count):
        square = sum(chance.gauss(0, 1) ** 2 for _ in range(3)) / 3
        found.append(exp(sigma * chance.gauss(0, 1) / square**0.5))
    return found


def bimodal(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values of which three of ten are 40 % higher, as with a cold cache."""
    return [exp(chance.gauss(0, sigma)) * (1.4 if chance.random() < 0.3 else 1.0) for _ in range(count)]


def outliers(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values of which one of twenty is two to five times as high."""
    return [
        exp(chance.gauss(0, sigma)) * (chance.uniform(2, 5) if chance.random() < 0.05 else 1.0)
        for _ in range(count)
    ]


def drift(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values that grow evenly by 10 % over the whole time."""
    return [exp(chance.gauss(0, sigma) + log1p(0.1) * number / count) for number in range(count)]


def wandering(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values of which each resembles the one before (autoregressive, 0.7)."""
    level, found = chance.gauss(0, sigma), []
    for _ in range(count):
        level = 0.7 * level + (1 - 0.49) ** 0.5 * chance.gauss(0, sigma)
        found.append(exp(level))
    return found


def two_hosts(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values from two machines without their names: five runs in a row on average, one 12 % slower."""
    return [value for value, _ in on_two_hosts(chance, count, sigma)]


def on_two_hosts(chance: random.Random, count: int, sigma: float) -> list[tuple[float, str]]:
    """Return the values of `two_hosts` with the machine of each, as the database has it."""
    slow, found = chance.random() < 0.5, []
    for _ in range(count):
        slow ^= chance.random() < 0.2
        value = exp(chance.gauss(0, sigma)) * (1.12 if slow else 1.0)
        found.append((value, "slow" if slow else "fast"))
    return found


def quantised(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Return values in coarse steps of 4 %, so that many are equal."""
    return [in_steps(exp(chance.gauss(0, sigma))) for _ in range(count)]


def in_steps(value: float) -> float:
    """Return the value rounded to a whole number of steps of 4 %, at least one."""
    return max(round(value / STEP), 1) * STEP


SHAPES = {
    "lognormal": lognormal,
    "heavy-tailed": heavy_tailed,
    "bimodal": bimodal,
    "outliers": outliers,
    "drift": drift,
    "wandering": wandering,
    "two hosts": two_hosts,
    "two hosts, not told apart": two_hosts,
    "quantised": quantised,
}
SIGMAS = (0.02, 0.05, 0.1, 0.3)
SIGMAS_OF_GROWTH = (0.02, 0.03, 0.05, 0.1)


KNOWN_TO_BEST_GATE = {
    "drift": ("drift", lognormal),  # the drift is known to it
    "two hosts": ("two hosts", lognormal),  # and so are the machines
    "two hosts, not told apart": ("two hosts", lognormal),
}


@dataclass
class Rates:
    """The error rates of the gate: comparisons with at least three new runs, those flagged, and tests flagged so
    far after each new run.
    """

    tests: int
    comparisons: int
    flagged: int
    caught_by: list[int]


def simulate(shape: str, sigma: float, *, growth: float, tolerance: float, tests: int, seed: int) -> Rates:
    chance = random.Random(f"{shape} {sigma} {growth} {tolerance} {seed}")
    rates = Rates(tests=tests, comparisons=0, flagged=0, caught_by=[0] * NEW)
    for _ in range(tests):
        places: list[str] | None = None
        if shape == "two hosts":
            runs = on_two_hosts(chance, OLD + NEW, sigma)
            values, places = [value for value, _ in runs], [machine for _, machine in runs]
        else:
            values = SHAPES[shape](chance, OLD + NEW, sigma)
        old, new = values[:OLD][::-1], [value * (1 + growth) for value in values[OLD:]]
        if shape == "quantised" and growth:
            new = [in_steps(value) for value in new]
        caught = False
        for number in range(1, NEW + 1):
            machines = None if places is None else (places[:OLD][::-1], places[OLD : OLD + number][::-1])
            result = compare(old, new[:number][::-1], tolerance=tolerance, minimum=0.0, machines=machines)
            rates.comparisons += result.judgement in (Judgement.GROWN, Judgement.UNCHANGED)
            rates.flagged += result.judgement is Judgement.GROWN
            caught |= result.judgement is Judgement.GROWN
            rates.caught_by[number - 1] += caught
    return rates


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def report(tests: int, seed: int) -> str:
    lines = [
        "# The gates' error rates, 21 November 2026",
        "",
        f"`python -m bench gates --tests {tests} --seed {seed}`: 50 old runs and five new ones,",
        "the gate evaluated after each; one or two new runs never break a gate. Sigma: standard deviation",
        "of the logarithm (0.05: about 5 %).",
        "",
        f"## Unchanged tests: comparisons flagged, of {3 * tests:,} each, gate +10 %",
        "",
        f"| noise | {' | '.join(f'sigma {sigma}' for sigma in SIGMAS)} |",
        f"|---|{'--:|' * len(SIGMAS)}",
    ]
    flagged = comparisons = 0
    for shape in SHAPES:
        cells = []
        for sigma in SIGMAS:
            found = simulate(shape, sigma, growth=0.0, tolerance=0.1, tests=tests, seed=seed)
            flagged, comparisons = flagged + found.flagged, comparisons + found.comparisons
            cells.append(f"{found.flagged} ({1000 * found.flagged / found.comparisons:.2f} in 1,000)")
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    lines += ["", f"All together {flagged} of {comparisons:,}: {1000 * flagged / comparisons:.3f} in 1,000.", ""]
    fewer = max(tests // 10, 1)
    for growth, tolerance in ((0.15, 0.1), (0.3, 0.2), (0.5, 0.1)):
        lines += [
            f"## Growth of {growth:.0%}, gate +{tolerance:.0%}: caught within 3 / 5 runs, {fewer} tests each",
            "",
            *(BEST_GATE_LINES if growth == BEST_GATE_GROWTH else ()),
            f"| noise | {' | '.join(f'sigma {sigma}' for sigma in SIGMAS_OF_GROWTH)} |",
            f"|---|{'--:|' * len(SIGMAS_OF_GROWTH)}",
        ]
        for shape, sample_of in SHAPES.items():
            cells = []
            for sigma in SIGMAS_OF_GROWTH:
                found = simulate(shape, sigma, growth=growth, tolerance=tolerance, tests=fewer, seed=seed)
                best = ""
                if growth == BEST_GATE_GROWTH:
                    known, sample = KNOWN_TO_BEST_GATE.get(shape, (shape, sample_of))
                    best = f" ({power(known, sigma, sample, growth=growth, tests=1000, seed=seed):.0%})"
                cells.append(f"{percent(found.caught_by[2], fewer)} / {percent(found.caught_by[4], fewer)}{best}")
            lines.append(f"| {shape} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    text = report(given.tests, given.seed)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0

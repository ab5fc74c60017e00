"""How often `orch check` is wrong: unchanged tests that it flags, real growth that it misses.

    PYTHONPATH=. python bench/gates.py [--tests 3000] [--seed 1] [--out bench/results/gates-2026-11-21.md]

A simulated test has 50 runs of history and then five new ones; the gate is asked after each, as CI would. Each
question is a comparison. `growth` multiplies the new runs' values.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from math import exp, log1p
from pathlib import Path

from bench.oracle import STEP, power
from orchestrator.analysis.regression import compare
from orchestrator.model.regression import Judgement

OLD, NEW = 50, 5
ORACLE_GROWTH = 0.15
ORACLE_LINES = (
    "In brackets: what the best possible test of five runs catches, which knows the noise exactly and is wrong",
    "once in 1,000 (`bench/oracle.py`). No gate can do better.",
    "",
)


def lognormal(chance: random.Random, count: int, sigma: float) -> list[float]:
    return [exp(chance.gauss(0, sigma)) for _ in range(count)]


def heavy_tailed(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Student's t with 3 degrees of freedom, in logarithms."""
    found = []
    for _ in range(count):
        square = sum(chance.gauss(0, 1) ** 2 for _ in range(3)) / 3
        found.append(exp(sigma * chance.gauss(0, 1) / square**0.5))
    return found


def bimodal(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Three of ten runs take 40 % more (a cold cache)."""
    return [exp(chance.gauss(0, sigma)) * (1.4 if chance.random() < 0.3 else 1.0) for _ in range(count)]


def outliers(chance: random.Random, count: int, sigma: float) -> list[float]:
    """One of twenty runs takes two to five times as much."""
    return [
        exp(chance.gauss(0, sigma)) * (chance.uniform(2, 5) if chance.random() < 0.05 else 1.0)
        for _ in range(count)
    ]


def drift(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Grows by 10 % evenly over the whole time."""
    return [exp(chance.gauss(0, sigma) + log1p(0.1) * number / count) for number in range(count)]


def wandering(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Each run resembles the one before it (autoregressive, 0.7)."""
    level, found = chance.gauss(0, sigma), []
    for _ in range(count):
        level = 0.7 * level + (1 - 0.49) ** 0.5 * chance.gauss(0, sigma)
        found.append(exp(level))
    return found


def two_hosts(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Runs stay on a machine for five on average; the other one takes 12 % more. Which it was is not known."""
    return [value for value, _ in on_two_hosts(chance, count, sigma)]


def on_two_hosts(chance: random.Random, count: int, sigma: float) -> list[tuple[float, str]]:
    """The same with the machines, as `orch check` has them from the database."""
    slow, found = chance.random() < 0.5, []
    for _ in range(count):
        slow ^= chance.random() < 0.2
        value = exp(chance.gauss(0, sigma)) * (1.12 if slow else 1.0)
        found.append((value, "slow" if slow else "fast"))
    return found


def quantised(chance: random.Random, count: int, sigma: float) -> list[float]:
    """Figures in coarse steps of 4 %, so that many are equal."""
    return [in_steps(exp(chance.gauss(0, sigma))) for _ in range(count)]


def in_steps(value: float) -> float:
    """Of 4 %, at least one."""
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


WHAT_THE_ORACLE_KNOWS = {
    "drift": ("drift", lognormal),  # it knows the drift
    "two hosts": ("two hosts", lognormal),  # and the machines
    "two hosts, not told apart": ("two hosts", lognormal),
}


@dataclass
class Rates:
    """Of so many tests: comparisons made with three new runs or more, flagged ones, tests flagged by each run."""

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
        f"`bench/gates.py --tests {tests} --seed {seed}`: 50 old runs, five new ones, the gate asked after each;",
        "one or two new runs never break a gate. Sigma: standard deviation of the logarithm (0.05: about 5 %).",
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
            *(ORACLE_LINES if growth == ORACLE_GROWTH else ()),
            f"| noise | {' | '.join(f'sigma {sigma}' for sigma in SIGMAS_OF_GROWTH)} |",
            f"|---|{'--:|' * len(SIGMAS_OF_GROWTH)}",
        ]
        for shape, sample_of in SHAPES.items():
            cells = []
            for sigma in SIGMAS_OF_GROWTH:
                found = simulate(shape, sigma, growth=growth, tolerance=tolerance, tests=fewer, seed=seed)
                best = ""
                if growth == ORACLE_GROWTH:
                    known, sample = WHAT_THE_ORACLE_KNOWS.get(shape, (shape, sample_of))
                    best = f" ({power(known, sigma, sample, growth=growth, tests=1000, seed=seed):.0%})"
                cells.append(f"{percent(found.caught_by[2], fewer)} / {percent(found.caught_by[4], fewer)}{best}")
            lines.append(f"| {shape} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tests", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    text = report(given.tests, given.seed)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

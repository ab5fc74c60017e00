"""The row of the scheduler on a simulated clock: the makespan relative to its lower bound."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bench import makespan
from bench.overhead.comparing import Judged, Spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "makespan"
TITLE = "1,000 tests of recorded, skewed lengths and needs, simulated engine"
TARGET = 1.03
SEEDS = 10
"""The number of plans of each shape."""


def judged(shapes: Mapping[str, Sequence[tuple[float, float]]]) -> list[Judged]:
    """Return a line for each shape, from its pairs of makespan and lower bound in seconds."""
    found = []
    for title, pairs in shapes.items():
        ratio = Spread.of([taken / bound for taken, bound in pairs])
        found.append(
            Judged(
                title=title,
                ours_name="scheduler",
                theirs_name="lower bound",
                ours=Spread.of([taken for taken, _ in pairs]),
                theirs=Spread.of([bound for _, bound in pairs]),
                ratio=ratio,
                target=TARGET,
                met=ratio.median <= TARGET,
            )
        )
    return found


def measure(seeds: int = SEEDS) -> list[Judged]:
    """Measure all shapes of `bench/makespan.py`."""
    return judged(
        {
            name: [_pair(draw(random.Random(seed))) for seed in range(seeds)]
            for name, draw in makespan.SHAPES.items()
        }
    )


def _pair(case: makespan.Case) -> tuple[float, float]:
    bound = max(case.bounds.values())
    return makespan.ratio(case) * bound, bound

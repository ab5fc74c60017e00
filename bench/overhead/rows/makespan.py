"""The row of the simulated engine: how near the packing comes to the lower bound."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bench.overhead.comparing import Judged, Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "makespan"
TITLE = "1,000 tests of recorded, skewed lengths and needs, simulated engine"
TARGET = 1.03
ABSENT = "there is no bench/makespan.py"


def judged(rounds: Sequence[tuple[str, float, float]]) -> list[Judged]:
    """From (title, makespan in seconds, its lower bound in seconds), a line each."""
    return [
        Judged(
            title=title,
            ours_name="scheduling.loop",
            theirs_name="lower bound",
            ours=Spread.of([taken]),
            theirs=Spread.of([bound]),
            ratio=Spread.of([taken / bound]),
            target=TARGET,
            met=taken / bound <= TARGET,
        )
        for title, taken, bound in rounds
    ]


def measure() -> list[Judged] | None:
    """None: the simulation is not there."""
    try:
        found = import_module("bench.makespan")
    except ModuleNotFoundError as error:
        if error.name != "bench.makespan":
            raise
        return None
    return judged(found.measure())

"""What a row of the table is, and how its figures come of the timings. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RowError(Exception):
    """A row has no figures: something did not do the work that it was timed for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One contender's one turn."""

    contender: str
    round: int
    wall_seconds: float
    """From the process' start to its exit."""
    cpu_seconds: float | None = None
    """Of the process and of those children that it waited for; containers are the engine's children. None: the
    contender is a thread pool of the benchmark's own.
    """
    load: float = 0.0
    """The load average of one minute when the turn began."""
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something that does a row's work; `run` does it once, RowError when it did not."""

    name: str
    run: Callable[[], Timing]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`ours` against `theirs`, both contenders' names; `target`: the highest good ratio, None: told only."""

    title: str
    ours: str
    theirs: str
    target: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFigure:
    """A contender's own CPU time by test; `target_ms`: the highest good one."""

    title: str
    contender: str
    tests: int
    target_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class Row:
    """A line of issue 4's table, ready to be measured."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    comparisons: tuple[Comparison, ...]
    cpu_figures: tuple[CpuFigure, ...] = ()
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of several figures."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError: there are none."""
        if not values:
            raise ValueError("no figures, no spread")
        return cls(median=median(values), low=min(values), high=max(values), count=len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A comparison with its figures."""

    title: str
    ours_name: str
    theirs_name: str
    ours: Spread
    """Seconds; of a CPU figure milliseconds by test."""
    theirs: Spread | None
    """None: a CPU figure is held against a number."""
    ratio: Spread | None
    """Median of ours by median of theirs; low and high are those of single rounds, each with the same load."""
    target: float | None
    met: bool | None
    """None: there is no target."""


def judge(comparison: Comparison, timings: Sequence[Timing]) -> Judged:
    """RowError: one of the two has no timing in any round of the other."""
    ours, theirs = _by_round(comparison.ours, timings), _by_round(comparison.theirs, timings)
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        raise RowError(f"{comparison.title}: no round has both {comparison.ours} and {comparison.theirs}")
    mine, other = Spread.of([ours[n] for n in both]), Spread.of([theirs[n] for n in both])
    single = Spread.of([ours[n] / theirs[n] for n in both])
    ratio = Spread(median=mine.median / other.median, low=single.low, high=single.high, count=len(both))
    return Judged(
        title=comparison.title,
        ours_name=comparison.ours,
        theirs_name=comparison.theirs,
        ours=mine,
        theirs=other,
        ratio=ratio,
        target=comparison.target,
        met=None if comparison.target is None else ratio.median <= comparison.target,
    )


def judge_cpu(figure: CpuFigure, timings: Sequence[Timing]) -> Judged:
    """Milliseconds of CPU time by test. RowError: the contender has none."""
    taken = [t.cpu_seconds for t in timings if t.contender == figure.contender and t.cpu_seconds is not None]
    if not taken:
        raise RowError(f"{figure.title}: {figure.contender} has no CPU time")
    spread = Spread.of([seconds * 1000 / figure.tests for seconds in taken])
    return Judged(
        title=figure.title,
        ours_name=figure.contender,
        theirs_name="",
        ours=spread,
        theirs=None,
        ratio=None,
        target=figure.target_ms,
        met=None if figure.target_ms is None else spread.median <= figure.target_ms,
    )


def _by_round(name: str, timings: Sequence[Timing]) -> dict[int, float]:
    return {t.round: t.wall_seconds for t in timings if t.contender == name}


def turns(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """A round's order: there and back again, so that none is always the first after another."""
    return list(contenders) if number % 2 == 0 else list(reversed(contenders))

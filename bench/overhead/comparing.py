"""The rows of the table, and the computation of their figures from timings. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RowError(Exception):
    """A row has no figures, because a contender did not do its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The timing of one run of one contender."""

    contender: str
    round: int
    wall_seconds: float
    """The time from the start of the process to its exit."""
    cpu_seconds: float | None = None
    """The CPU time of the process and its children, containers not included. None: the contender runs in threads
    of the benchmark.
    """
    load: float = 0.0
    """The load average of one minute at the start."""
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A way to do the work of a row; `run` does it once and raises RowError if the work was not done."""

    name: str
    run: Callable[[], Timing]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two contenders to compare by name. `target` is the highest acceptable ratio; None: there is no target."""

    title: str
    ours: str
    theirs: str
    target: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFigure:
    """The CPU time of a contender for each test; `target_ms` is the highest acceptable one."""

    title: str
    contender: str
    tests: int
    target_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class Row:
    """A kind of work with its contenders, ready to be measured."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    comparisons: tuple[Comparison, ...]
    cpu_figures: tuple[CpuFigure, ...] = ()
    facts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median and range of several figures."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute the spread of `values`. Raises ValueError if there are none."""
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
    """In seconds; for a CPU figure in milliseconds for each test."""
    theirs: Spread | None
    """None for a CPU figure, which is compared with a number."""
    ratio: Spread | None
    """The median of ours divided by the median of theirs; lowest and highest are those of single rounds."""
    target: float | None
    met: bool | None
    """None: there is no target."""


def judge(comparison: Comparison, timings: Sequence[Timing]) -> Judged:
    """Compute a comparison from the rounds that have both. Raises RowError if there is none."""
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
    """Compute the milliseconds of CPU time for each test. Raises RowError if the contender has none."""
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
    """Return the order of a round: reversed in every second one, so that no contender always follows the same."""
    return list(contenders) if number % 2 == 0 else list(reversed(contenders))

"""Distribution of usage as a share of limits: histograms, and figures for each profile."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.model.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.nightly import NightlyTest

BINS = 20
NEAR_BIN = 18
"""First bin that counts as near the limit (90 %)."""
HEIGHT = 120.0
BIN_WIDTH = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Bar of a histogram: the number of tests between two shares of the limit."""

    label: str
    count: int
    x: float
    y: float
    height: float
    near: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Histogram of tests by their maximum share of a limit."""

    title: str
    bars: tuple[Bar, ...]
    measured: int
    unmeasured: int
    near: int
    """The number of tests at 90 % or more."""
    middle: float
    """The median of the shares."""


def histogram(tests: Sequence[NightlyTest], resource: Resource, title: str) -> Histogram | None:
    """Return the histogram of a resource, or None if no test has a figure. Shares above the limit are in the last
    bar.
    """
    shares = [share for test in tests if (share := test.maximum(resource)) is not None]
    if not shares:
        return None
    counts = [0] * BINS
    for share in shares:
        counts[min(int(share * BINS), BINS - 1)] += 1
    top = max(counts)
    bars = []
    for at, count in enumerate(counts):
        # the bar of a single test must be visible beside one of a thousand
        height = max(count / top * HEIGHT, 2.0) if count else 0.0
        low, high = 100 * at // BINS, 100 * (at + 1) // BINS
        last = at == BINS - 1
        bars.append(
            Bar(
                label=f"{low} % and more" if last else f"{low} to {high} %",
                count=count,
                x=at * BIN_WIDTH,
                y=HEIGHT - height,
                height=height,
                near=at >= NEAR_BIN,
            )
        )
    return Histogram(
        title=title,
        bars=tuple(bars),
        measured=len(shares),
        unmeasured=len(tests) - len(shares),
        near=sum(counts[NEAR_BIN:]),
        middle=median(shares),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileUse:
    """Usage of the tests of a profile as shares of its limits; None: not measured."""

    name: str
    memory_bytes: int
    timeout_seconds: float
    tests: int
    memory_median: float | None
    memory_most: float | None
    time_median: float | None
    time_most: float | None


def profile_uses(tests: Sequence[NightlyTest]) -> tuple[ProfileUse, ...]:
    """Return the usage of each profile that tests used last, most tests first."""
    by_profile: dict[str, list[NightlyTest]] = defaultdict(list)
    for test in tests:
        by_profile[test.last.profile].append(test)
    uses = []
    for name, members in by_profile.items():
        memory = [s for t in members if (s := t.maximum(Resource.MEMORY_RATIO)) is not None]
        time = [s for t in members if (s := t.maximum(Resource.TIME_RATIO)) is not None]
        limits = members[0].last.limits
        uses.append(
            ProfileUse(
                name=name,
                memory_bytes=limits.memory_bytes,
                timeout_seconds=limits.timeout_seconds,
                tests=len(members),
                memory_median=median(memory) if memory else None,
                memory_most=max(memory, default=None),
                time_median=median(time) if time else None,
                time_most=max(time, default=None),
            )
        )
    return tuple(sorted(uses, key=lambda use: (-use.tests, use.name)))

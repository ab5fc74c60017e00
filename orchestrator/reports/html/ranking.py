"""Tests with the highest usage of each resource in a window, with their history, and tests whose usage grew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.resources import Resource
from orchestrator.reports.html.svg import sparkline_path
from orchestrator.reports.tables.table import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.nightly import NightlyTest

WORST = 8
GROWN = 10
NOTEWORTHY = 0.25
"""Growth of a median from which it is listed."""

RANKED = (
    (Resource.MEMORY, "Memory", "Peak of the test's own memory."),
    (Resource.CPU, "CPU time", "User and system time of all processes."),
    (Resource.DURATION, "Duration", "From start to end, without time in the queue."),
    (Resource.READ, "Read from disk", "Bytes from block devices."),
    (Resource.WRITE, "Written to disk", "Bytes to block devices."),
    (Resource.PIDS, "Processes and threads", "Maximum at one time."),
    (Resource.THROTTLED, "Throttling", "Time for which the CPU limit stopped it."),
)
_LEAST = {Resource.THROTTLED: 0.1, Resource.READ: 4096.0, Resource.WRITE: 4096.0}
"""Usage below this is not ranked."""

_NOISE = {Resource.MEMORY: 2.0 * 1024 * 1024, Resource.CPU: 0.1, Resource.DURATION: 0.1}
"""Smaller differences are ignored, however large their ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedTest:
    """A test in a ranking, with texts and drawings of its row."""

    test: NightlyTest
    value: str
    share: float
    """Share of the highest figure of the ranking, 0 to 1; the length of the bar."""
    of_limit: float | None
    change: float | None
    sparkline: str
    sparkline_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The tests with the highest usage of one resource."""

    key: str
    title: str
    note: str
    tests: tuple[RankedTest, ...]


def rankings(tests: Sequence[NightlyTest]) -> tuple[Ranking, ...]:
    """Return a ranking for each resource that any test used."""
    found = []
    for resource, title, note in RANKED:
        used = [(value, test) for test in tests if (value := test.maximum(resource)) is not None]
        least = _LEAST.get(resource, 0.0)
        worst = sorted((pair for pair in used if pair[0] > least), key=lambda p: (-p[0], str(p[1].test_id)))[
            :WORST
        ]
        if worst:
            ranked = tuple(_ranked_test(test, resource, value, worst[0][0]) for value, test in worst)
            found.append(Ranking(key=resource.key, title=title, note=note, tests=ranked))
    return tuple(found)


def _ranked_test(test: NightlyTest, resource: Resource, value: float, top: float) -> RankedTest:
    history = test.history(resource)
    limits = test.last.limits
    limit = {
        Resource.MEMORY: test.maximum(Resource.MEMORY_RATIO),
        Resource.DURATION: test.maximum(Resource.TIME_RATIO),
        Resource.PIDS: value / limits.pids if limits.pids else None,
    }.get(resource)
    latest = ", ".join(str(Figure(value, resource.unit)) for value in history[-6:])
    return RankedTest(
        test=test,
        value=str(Figure(value, resource.unit)),
        share=value / top,
        of_limit=limit,
        change=test.change(resource),
        sparkline=sparkline_path(history),
        sparkline_text=f"last {min(len(history), 6)} runs: {latest}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A figure of a test whose median grew."""

    test: NightlyTest
    title: str
    before: str
    after: str
    change: float


def growths(tests: Sequence[NightlyTest]) -> tuple[Growth, ...]:
    """Return the medians that grew by 25 % or more, largest growth first."""
    found = []
    titles = {resource: title for resource, title, _ in RANKED}
    for test in tests:
        for resource, noise in _NOISE.items():
            change, after = test.change(resource), test.maximum(resource)
            if change is None or after is None or change < NOTEWORTHY:
                continue
            before = after / (1 + change)
            if after - before >= noise:
                texts = str(Figure(before, resource.unit)), str(Figure(after, resource.unit))
                title = titles[resource]
                found.append(Growth(test=test, title=title, before=texts[0], after=texts[1], change=change))
    return tuple(sorted(found, key=lambda g: -g.change)[:GROWN])

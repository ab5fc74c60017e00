"""In which order tests are offered to the machine: longest first, so that no long one is left for the end."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.model import Preload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model import Assignment


BRIEF_SECONDS = 0.25
BRIEF_SHARE = 1 / 200
"""A test that takes no longer, or no larger share of all tests' time, is brief: its place in the order of length
decides nothing.
"""


def expected_seconds(assignment: Assignment) -> float:
    """How long the test takes: p95 of its history, else its timeout (nothing tighter is known of it)."""
    timeout_seconds = assignment.profile.limits.timeout_seconds
    if assignment.history is None:
        return timeout_seconds
    return min(assignment.history.duration_seconds_p95, timeout_seconds)


def order(plan: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Longest first; among equals the bigger profile (memory, then CPUs) first; else as given.

    Tests that are forked from a preloaded runner, and brief as far as is known, count as equals and come folder by
    folder, that with most to do first: a slot keeps the runners of few folders, and starting one takes longer
    than such a test. What is lost by it at a run's end is less than one of them takes.

    Exclusive tests come after all others: each of them empties the machine, and one after another at the end
    they do so once, not once each.
    """
    tests = tuple(plan)
    brief = max(BRIEF_SECONDS, BRIEF_SHARE * sum(map(expected_seconds, tests)))
    work: defaultdict[str, float] = defaultdict(float)
    for one in tests:
        if _is_forked(one):
            work[_folder(one)] += min(expected_seconds(one), brief)

    def key(one: Assignment) -> tuple[object, ...]:
        seconds, forked = expected_seconds(one), _is_forked(one)
        folder = _folder(one) if forked else ""
        limits = one.profile.limits
        leading = max(seconds, brief) if forked else seconds
        return one.exclusive, -leading, -limits.memory_bytes, -limits.cpus, -work[folder], folder, -seconds

    return tuple(sorted(tests, key=key))


def _is_forked(assignment: Assignment) -> bool:
    return assignment.profile.reuse > 1 and assignment.test.command.preload is not Preload.OFF


def _folder(assignment: Assignment) -> str:
    return posixpath.dirname(assignment.test.id.path)

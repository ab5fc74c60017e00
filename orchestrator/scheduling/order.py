"""In which order tests are offered to the machine: longest first, so that no long one is left for the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model import Assignment


def expected_seconds(assignment: Assignment) -> float:
    """How long the test takes: p95 of its history, else its timeout (nothing tighter is known of it)."""
    timeout_seconds = assignment.profile.limits.timeout_seconds
    if assignment.history is None:
        return timeout_seconds
    return min(assignment.history.duration_seconds_p95, timeout_seconds)


def order(plan: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Longest first; among equals the bigger profile (memory, then CPUs) first; else as given.

    Exclusive tests come after all others: each of them empties the machine, and one after another at the end
    they do so once, not once each.
    """
    return tuple(
        sorted(
            plan,
            key=lambda a: (
                a.exclusive,
                -expected_seconds(a),
                -a.profile.limits.memory_bytes,
                -a.profile.limits.cpus,
            ),
        )
    )

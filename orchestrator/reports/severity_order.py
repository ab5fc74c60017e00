"""TO BE WRITTEN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.outcomes import Severity, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

_GRAVITY = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}


def by_gravity(violations: Iterable[Violation]) -> list[Violation]:
    """Worst first; equally grave ones in the order in which they were found."""
    return sorted(violations, key=gravity_of)


def gravity_of(violation: Violation) -> int:
    """0 for the gravest."""
    return _GRAVITY[violation.severity]

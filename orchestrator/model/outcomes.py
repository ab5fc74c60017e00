"""Outcomes of tests and of the cases in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Outcome of an attempt or a test."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OOM = "oom"
    CRASHED = "crashed"
    INFRA = "infra"
    """Unknown: the engine failed, or the witnesses disagree."""
    INTERRUPTED = "interrupted"
    """The run was stopped before the test's end."""
    SKIPPED = "skipped"


FAILING = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.OOM, Outcome.CRASHED})
"""Outcomes that are the test's own fault: retried, and counted by `max_fail`."""
SUCCESSFUL = frozenset({Outcome.PASSED, Outcome.SKIPPED})
"""Outcomes that need no attention."""


class CaseOutcome(StrEnum):
    """Outcome of one case inside a test, in the terms of JUnit and TAP."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    XFAILED = "xfailed"


FAILING_CASES = frozenset({CaseOutcome.FAILED, CaseOutcome.ERROR})
"""Outcomes of a case that make its test fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """Result of one case, as reported by the suite's runner."""

    name: str
    outcome: CaseOutcome
    duration_seconds: float | None = None
    message: str = ""

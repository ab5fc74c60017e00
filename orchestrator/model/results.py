"""Every value that crosses a stage: frozen, slotted, keyword-only; units are in the names.

A missing figure is `None`, never 0. Times of day are timezone-aware UTC `datetime`; durations are float
seconds taken from a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING, CaseResult, Outcome, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.model.evidence import Evidence
    from orchestrator.model.tests import Assignment, Test


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of one test in one container: what `execute` returns."""

    id: str
    """UUID; the database's key."""
    assignment: Assignment
    outcome: Outcome
    message: str
    """Why, in one line; empty for a pass."""
    exit_code: int | None
    signal: int | None
    evidence: Evidence
    violations: tuple[Violation, ...] = ()
    cases: tuple[CaseResult, ...] = ()
    witnesses: int = 2
    folder: Path | None = None
    """Where stdout, stderr, metrics.json and outputs/ are. None: it passed in silence."""
    absent: bool = False
    """The case that was asked for does not exist: nothing ran, and nothing is recorded of it."""


class Verb(StrEnum):
    """The word in front of a finished test's line."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    FLAKY = "FLAKY"
    SLOW = "SLOW"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    CRASH = "CRASH"
    LEAK = "LEAK"
    UNDERSIZED = "UNDERSIZED"
    RUNAWAY = "RUNAWAY"
    INFRA = "INFRA"
    SKIP = "SKIP"
    STOPPED = "STOPPED"


def counting(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """The attempts without a failure in a reused slot, or for want of CPUs, that was tried again: what came of
    that counts in its place, and only that.
    """
    if len(attempts) > 1 and any(a.evidence.inconclusive for a in attempts):
        first = attempts[:-1]
        return (*(a for a in first if not (a.outcome in FAILING and a.evidence.inconclusive)), attempts[-1])
    return attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """The final word on one test of a run: its attempts, in order, and what they add up to."""

    __test__ = False

    attempts: tuple[Attempt, ...]
    outcome: Outcome
    verb: Verb
    flaky: bool = False
    """Failed at least once and passed at least once."""

    @property
    def final(self) -> Attempt:
        """The attempt that decided: the last one that passed or failed, else the last one. A retry that was
        interrupted, skipped or lost to the engine says nothing about the test; a failure in a reused slot that
        was tried again does not count.
        """
        if len(self.attempts) == 1:
            return self.attempts[0]
        silent = (Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED)
        return next((a for a in reversed(counting(self.attempts)) if a.outcome not in silent), self.attempts[-1])

    @property
    def overruled(self) -> Attempt | None:
        """The failure that did not count, because the test was tried again: in a fresh slot where it had failed
        in a reused one, alone where others had had the CPUs.
        """
        return next((a for a in self.attempts if not any(a is one for one in counting(self.attempts))), None)

    @property
    def test(self) -> Test:
        """The test concerned."""
        return self.attempts[-1].assignment.test

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Violations of the deciding attempt."""
        return self.final.violations

"""Results: a judged attempt, and the result of a test made of its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING, CaseResult, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.model.evidence import Evidence
    from orchestrator.model.tests import Assignment, Test
    from orchestrator.model.violations import Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One judged run of one test in one container."""

    id: str
    """UUID; the attempt's key in the database."""
    assignment: Assignment
    outcome: Outcome
    message: str
    """Reason for the outcome in one line; empty for a pass."""
    exit_code: int | None
    signal: int | None
    evidence: Evidence
    violations: tuple[Violation, ...] = ()
    cases: tuple[CaseResult, ...] = ()
    witnesses: int = 2
    folder: Path | None = None
    """Folder of stdout, stderr, metrics.json and outputs/. None: the test passed and wrote nothing."""
    absent: bool = False
    """True if the selected case does not exist: nothing was run, and nothing is recorded."""

    @property
    def memory_limit_bytes(self) -> int:
        """The limit that was enforced on the test's own memory.

        A test that is forked from a preloaded runner gets the profile's limit on top of the memory that was
        charged before it. The container's limit is changed only if it is off by more than 4 MiB
        (docs/design/measure/own-memory.md), so the test may have a little more than the profile's limit, and a
        peak of 97 MiB under 96 MiB is possible.
        """
        evidence, limit = self.evidence, self.assignment.profile.limits.memory_bytes
        effective = evidence.attestation.effective_memory_bytes if evidence.attestation else None
        floor = evidence.usage.memory_floor_bytes
        return limit if effective is None or floor is None else max(limit, effective - floor)


class Verb(StrEnum):
    """Word that begins the line of a finished test."""

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


def counted_attempts(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """Return the attempts that count: those without an inconclusive failure (in a reused slot, or for lack of
    CPUs) that was repeated, because the repetition replaces it.
    """
    if len(attempts) > 1 and any(a.evidence.inconclusive for a in attempts):
        first = attempts[:-1]
        return (*(a for a in first if not (a.outcome in FAILING and a.evidence.inconclusive)), attempts[-1])
    return attempts


def deciding_attempt(attempts: Sequence[Attempt]) -> Attempt:
    """Return the last attempt that passed or failed, else the last one.

    A retry that was interrupted, skipped or `infra` does not decide, nor does an inconclusive failure that was
    repeated.
    """
    if len(attempts) == 1:
        return attempts[0]
    undecided = (Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED)
    return next((a for a in reversed(counted_attempts(attempts)) if a.outcome not in undecided), attempts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """Result of one test in a run: its attempts in order, and the outcome that follows from them."""

    __test__ = False

    attempts: tuple[Attempt, ...]
    outcome: Outcome
    verb: Verb
    flaky: bool = False
    """True if the test failed at least once and passed at least once."""

    @property
    def final(self) -> Attempt:
        """The deciding attempt, see `deciding_attempt`."""
        return deciding_attempt(self.attempts)

    @property
    def overruled(self) -> Attempt | None:
        """The inconclusive failure that does not count because the test was repeated: in a fresh slot after a
        failure in a reused one, alone after a lack of CPUs. None: there is none.
        """
        return next(
            (a for a in self.attempts if not any(a is one for one in counted_attempts(self.attempts))), None
        )

    @property
    def test(self) -> Test:
        """The test of all attempts."""
        return self.attempts[-1].assignment.test

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Violations of the deciding attempt."""
        return self.final.violations

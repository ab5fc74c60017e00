"""Estimate the CPU need of tests without history from the tests of the same run that have ended.

Only CPUs are estimated: too low an estimate makes tests slower, while too low an estimate of memory
could make the kernel's OOM killer end them (docs/design/scheduling/first-runs.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import Outcome
from orchestrator.scheduling.admission import ENOUGH_ATTEMPTS, SINGLE_CPUS, need_of, whole_cpus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Need

_Key = tuple[str, str]
"""The names of suite and profile."""


@dataclass(slots=True)
class _Observed:
    """The tests of one suite and profile that have passed."""

    tests: int = 0
    most_cpus: float = 0.0

    @property
    def estimate(self) -> float | None:
        """The CPUs that other tests of this suite and profile may need; None: too few have passed."""
        return whole_cpus(self.most_cpus) if self.tests >= ENOUGH_ATTEMPTS else None


class CpuEstimates:
    """Estimates of the CPUs that tests without history need, from the tests of one run that have passed."""

    def __init__(self, plan: Iterable[Assignment]) -> None:
        self._observed = {
            _key(a): _Observed() for a in plan if a.history is None and a.profile.limits.cpus > SINGLE_CPUS
        }
        """Suite and profile -> observations, only where some test has no history."""

    def note(self, attempt: Attempt) -> bool:
        """Record an attempt that has ended; return whether the estimate for other tests has changed."""
        observed = self._observed.get(_key(attempt.assignment))
        evidence = attempt.evidence
        cpu_seconds, seconds = evidence.usage.cpu_seconds, evidence.timings.test_seconds
        if observed is None or attempt.outcome is not Outcome.PASSED or cpu_seconds is None or seconds <= 0:
            return False
        before = observed.estimate
        observed.tests += 1
        observed.most_cpus = max(observed.most_cpus, cpu_seconds / seconds)
        return observed.estimate != before

    def need_of(self, assignment: Assignment) -> Need:
        """Return `admission.need_of`, with the CPUs replaced for a first attempt without history.

        They are the most that any of at least 3 tests of the same suite and profile has used, rounded up to whole
        CPUs, but at least half of the test's limit, so that a test that needs all of it takes at most twice as
        long.
        """
        need = need_of(assignment)
        if assignment.history is not None or assignment.attempt > 1:
            return need
        limit = assignment.profile.limits.cpus
        observed = self._observed.get(_key(assignment))
        estimate = None if observed is None else observed.estimate
        if estimate is None:
            return need
        return replace(need, cpus=min(limit, max(estimate, limit / 2)))


def _key(assignment: Assignment) -> _Key:
    return assignment.test.suite, assignment.profile.name

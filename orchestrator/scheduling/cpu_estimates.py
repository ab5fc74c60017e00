"""What the finished tests of a run say of those of which nothing is known yet: how many CPUs they need.

Only CPUs: too low an estimate makes tests slower, while one of memory could have the machine's memory killer end
them (docs/design/first-runs.md).
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

_Kind = tuple[str, str]
"""Suite and profile."""


@dataclass(slots=True)
class _Seen:
    """Of the tests of a kind that have passed."""

    tests: int = 0
    most_cpus: float = 0.0

    @property
    def estimate(self) -> float | None:
        """CPUs that the others may need; None: too few have passed."""
        return whole_cpus(self.most_cpus) if self.tests >= ENOUGH_ATTEMPTS else None


class Learned:
    """Of one run."""

    def __init__(self, plan: Iterable[Assignment]) -> None:
        self._seen = {_kind(a): _Seen() for a in plan if a.history is None and a.profile.limits.cpus > SINGLE_CPUS}
        """Only kinds of which some test has no history."""

    def note(self, attempt: Attempt) -> bool:
        """An attempt has ended. True: other tests of its kind may need something else now."""
        seen = self._seen.get(_kind(attempt.assignment))
        evidence = attempt.evidence
        cpu_seconds, seconds = evidence.usage.cpu_seconds, evidence.timings.test_seconds
        if seen is None or attempt.outcome is not Outcome.PASSED or cpu_seconds is None or seconds <= 0:
            return False
        before = seen.estimate
        seen.tests += 1
        seen.most_cpus = max(seen.most_cpus, cpu_seconds / seconds)
        return seen.estimate != before

    def need_of(self, assignment: Assignment) -> Need:
        """As `admission.need_of`; for a first attempt without history as many CPUs as the most that one of at
        least 3 tests of its suite and profile has used, rounded up to whole ones. Never less than half of its
        limit, so that a test which needs all of it takes at most twice as long.
        """
        need = need_of(assignment)
        if assignment.history is not None or assignment.attempt > 1:
            return need
        limit = assignment.profile.limits.cpus
        seen = self._seen.get(_kind(assignment))
        estimate = None if seen is None else seen.estimate
        if estimate is None:
            return need
        return replace(need, cpus=min(limit, max(estimate, limit / 2)))


def _kind(assignment: Assignment) -> _Kind:
    return assignment.test.suite, assignment.profile.name

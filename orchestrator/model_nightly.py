"""What the nightly report is made of: each test's last result in a window, what it was before, its history.

Units are in the names, a missing figure is `None`, times are timezone-aware UTC, as in `model`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.model import Outcome
from orchestrator.model_reports import MINIMUM_FOR_TREND, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.model import Sample, TestId, ViolationKind
    from orchestrator.model_flaky import Finding, FlakyTest
    from orchestrator.model_reports import AttemptRow, RunRecord, RunRow, Suggestion

GOOD = frozenset({Outcome.PASSED, Outcome.SKIPPED})
"""Outcomes of a test that is no trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """One judged attempt of a test, as far as trends need it."""

    attempt_id: str
    run_id: str
    started_at: datetime
    profile: str
    outcome: Outcome
    final: bool
    flaky: bool
    """Whether the result it decided was flaky; False for attempts that decided nothing."""
    slot_position: int
    forked: bool
    limit_memory_bytes: int
    limit_timeout_seconds: float
    figures: Mapping[Resource, float]
    """What was measured; what was not is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightTest:
    """A test that ran within the window."""

    test_id: TestId
    attempts: tuple[AttemptRow, ...]
    """Of the run that decided it last, in order."""
    last: AttemptRow
    """The attempt that decided it last."""
    samples: tuple[Sample, ...]
    """Time series of `last`."""
    now: tuple[HistoryPoint, ...]
    """Judged attempts within the window, oldest first."""
    before: tuple[HistoryPoint, ...]
    """Judged attempts before it, as far as history goes back, oldest first."""
    kinds_before: frozenset[ViolationKind] = frozenset()
    """Violations of the last deciding attempt before the window."""

    @property
    def outcome(self) -> Outcome:
        """Of the test as a whole, at its last."""
        return self.last.test_outcome or self.last.outcome

    @property
    def outcome_before(self) -> Outcome | None:
        """Of the last attempt before the window that decided the test; None: it is new."""
        return next((point.outcome for point in reversed(self.before) if point.final), None)

    @property
    def failing(self) -> bool:
        """It did not pass, nor was it skipped."""
        return self.outcome not in GOOD

    @property
    def newly_failing(self) -> bool:
        """It fails, and did not at its last before the window, if it was there."""
        return self.failing and (self.outcome_before is None or self.outcome_before in GOOD)

    @property
    def cured(self) -> bool:
        """It passes, and failed at its last before the window."""
        before = self.outcome_before
        return self.outcome is Outcome.PASSED and before is not None and before not in GOOD

    @property
    def kinds(self) -> frozenset[ViolationKind]:
        """Budgets that its last attempt broke."""
        return frozenset(violation.kind for violation in self.last.violations)

    @property
    def finals(self) -> tuple[HistoryPoint, ...]:
        """Attempts that decided the test, before and within the window."""
        return tuple(point for point in (*self.before, *self.now) if point.final)

    def maximum(self, resource: Resource) -> float | None:
        """The largest figure within the window; None: never measured."""
        return max((p.figures[resource] for p in self.now if resource in p.figures), default=None)

    def history(self, resource: Resource) -> tuple[float, ...]:
        """All that was measured, oldest first, the window's included."""
        return tuple(p.figures[resource] for p in (*self.before, *self.now) if resource in p.figures)

    def change(self, resource: Resource) -> float | None:
        """Median within the window against that of before: 0.25 is a quarter more. None: too few before."""
        before = [p.figures[resource] for p in self.before if resource in p.figures]
        now = [p.figures[resource] for p in self.now if resource in p.figures]
        if len(before) < MINIMUM_FOR_TREND or not now or not (usual := median(before)):
            return None
        return median(now) / usual - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a window's runs took together."""

    runs: int
    attempts: int
    wall_seconds: float
    """Lengths of the runs that ended, added up."""
    cpu_seconds: float | None
    """None: measured in no attempt."""
    test_seconds: float
    """Lengths of all attempts, added up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nightly:
    """A window of the resource database, and what came before it."""

    since: datetime | None
    until: datetime
    made_at: datetime
    orch_version: str
    runs: tuple[RunRow, ...]
    """Begun within the window, newest first."""
    main: RunRecord | None
    """The largest of them, of those the newest: its timeline is shown."""
    tests: tuple[NightTest, ...]
    """By name."""
    gone: tuple[TestId, ...] = ()
    """In the window before and not in this one."""
    cost: Cost
    cost_before: Cost | None = None
    """Of the window of the same length before; None: nothing ran, or there is none."""

    @property
    def compares(self) -> bool:
        """Whether anything is known of before the window; else nothing is new."""
        return any(test.before for test in self.tests)

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many tests ended how, at their last."""
        return Counter(test.outcome for test in self.tests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What was made of the history of a report's tests."""

    flaky: tuple[tuple[FlakyTest, Finding], ...] = ()
    """Tests that passed and failed lately, whatever they are now, the worst first."""
    advice: tuple[Suggestion, ...] = ()
    """A word on each test's profile, the gravest first."""
    minimum_runs: int = 0
    """Fewer are not enough for advice."""

    @property
    def flaky_ids(self) -> frozenset[TestId]:
        """Names of the flaky tests."""
        return frozenset(test.test_id for test, _ in self.flaky)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTails:
    """The last bytes of an attempt's output streams, as the test wrote them."""

    stdout: bytes = b""
    stderr: bytes = b""

"""What the nightly report is made of: each test's last result in a window, what it was before, its history.

Units are in the names, a missing figure is `None`, times are timezone-aware UTC, as in `model`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, cast

from orchestrator.model.outcomes import SUCCESSFUL, Outcome
from orchestrator.model.stored import MINIMUM_FOR_TREND, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from orchestrator.model.advice import Suggestion
    from orchestrator.model.flaky import Finding, FlakyTest
    from orchestrator.model.outcomes import ViolationKind
    from orchestrator.model.stored import AttemptRow, RunRecord, RunRow
    from orchestrator.model.tests import TestId

PAST_RESOURCES = (
    Resource.MEMORY,
    Resource.CPU,
    Resource.DURATION,
    Resource.PIDS,
    Resource.THROTTLED,
    Resource.READ,
    Resource.WRITE,
)
"""Whose figures a report has of before its window: what trends are drawn of."""
PRESENT_RESOURCES = (*PAST_RESOURCES, Resource.MEMORY_RATIO, Resource.TIME_RATIO)
"""Whose figures it has of the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptHistory:
    """Judged attempts of a test, oldest first: a column of each fact, because a report has tens of thousands."""

    run_ids: Sequence[str] = ()
    outcomes: Sequence[Outcome] = ()
    finals: Sequence[bool] = ()
    """Which of them decided the test."""
    figures: Mapping[Resource, Sequence[float | None]] = field(default_factory=dict)
    """None: not measured. Of no resources where there are no attempts."""
    highest: Mapping[Resource, float] | None = None
    """The largest figures of a time of which these are only the newest attempts. None: they are all."""
    _measured: dict[Resource, Sequence[float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `measured` has said: a page asks it a dozen times of each test, and as often what follows from it."""
    _maxima: dict[Resource, float | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _medians: dict[Resource, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """Attempts; an empty course is false."""
        return len(self.run_ids)

    def measured(self, resource: Resource) -> Sequence[float]:
        """What was measured of a resource, oldest first. KeyError: a report does not have it."""
        if resource not in self._measured:
            column = self.figures[resource] if self.run_ids else ()
            if None in column:
                column = [figure for figure in column if figure is not None]
            self._measured[resource] = cast("Sequence[float]", column)
        return self._measured[resource]

    def maximum(self, resource: Resource) -> float | None:
        """The largest figure; None: never measured."""
        if self.highest is not None:
            return self.highest.get(resource)
        if resource not in self._maxima:
            self._maxima[resource] = max(self.measured(resource), default=None)
        return self._maxima[resource]

    def median(self, resource: Resource) -> float:
        """The figure in the middle. StatisticsError: never measured."""
        if resource not in self._medians:
            self._medians[resource] = median(self.measured(resource))
        return self._medians[resource]

    def newest(self, count: int) -> AttemptHistory:
        """The last so many attempts."""
        return AttemptHistory(
            run_ids=self.run_ids[-count:],
            outcomes=self.outcomes[-count:],
            finals=self.finals[-count:],
            figures={resource: column[-count:] for resource, column in self.figures.items()},
        )

    @property
    def deciding(self) -> Iterator[Outcome]:
        """Outcomes of the attempts that decided the test, the newest first."""
        pairs = zip(reversed(self.outcomes), reversed(self.finals), strict=True)
        return (outcome for outcome, final in pairs if final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A test's time series, a column of each figure that a report draws; all are as long as `at_seconds`."""

    at_seconds: Sequence[float] = ()
    memory_bytes: Sequence[float | None] = ()
    cpu_seconds: Sequence[float | None] = ()
    pids: Sequence[float | None] = ()

    def __len__(self) -> int:
        """Points."""
        return len(self.at_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyTest:
    """A test that ran within the window."""

    test_id: TestId
    attempts: tuple[AttemptRow, ...]
    """Of the run that decided it last, in order."""
    last: AttemptRow
    """The attempt that decided it last."""
    samples: Series
    """Of `last`."""
    now: AttemptHistory
    """Judged attempts within the window; figures of `PRESENT_RESOURCES`."""
    before: AttemptHistory
    """Judged attempts before it, as far as history goes back; figures of `PAST_RESOURCES`."""
    kinds_before: frozenset[ViolationKind] = frozenset()
    """Violations of the last deciding attempt before the window."""

    @property
    def outcome(self) -> Outcome:
        """Of the test as a whole, at its last."""
        return self.last.test_outcome or self.last.outcome

    @property
    def outcome_before(self) -> Outcome | None:
        """Of the last attempt before the window that decided the test; None: it is new."""
        return next(self.before.deciding, None)

    @property
    def failing(self) -> bool:
        """It did not pass, nor was it skipped."""
        return self.outcome not in SUCCESSFUL

    @property
    def newly_failing(self) -> bool:
        """It fails, and did not at its last before the window, if it was there."""
        return self.failing and (self.outcome_before is None or self.outcome_before in SUCCESSFUL)

    @property
    def cured(self) -> bool:
        """It passes, and failed at its last before the window."""
        before = self.outcome_before
        return self.outcome is Outcome.PASSED and before is not None and before not in SUCCESSFUL

    @property
    def kinds(self) -> frozenset[ViolationKind]:
        """Budgets that its last attempt broke."""
        return frozenset(violation.kind for violation in self.last.violations)

    def maximum(self, resource: Resource) -> float | None:
        """The largest figure within the window; None: never measured."""
        return self.now.maximum(resource)

    def history(self, resource: Resource) -> tuple[float, ...]:
        """All that was measured, oldest first, the window's included."""
        return (*self.before.measured(resource), *self.now.measured(resource))

    def change(self, resource: Resource) -> float | None:
        """Median within the window against that of before: 0.25 is a quarter more. None: too few before."""
        before, now = self.before, self.now
        if len(before.measured(resource)) < MINIMUM_FOR_TREND or not now.measured(resource):
            return None
        usual = before.median(resource)
        return now.median(resource) / usual - 1 if usual else None


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
    tests: tuple[NightlyTest, ...]
    """By name."""
    began: Mapping[str, datetime] = field(default_factory=dict)
    """When the first of the tests' attempts of each run began, oldest run first."""
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
class HistoryAnalysis:
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

"""Data of the nightly report: each test's last result in a window, its result before, and its history.

Units are in the names, a missing figure is `None`, and times are timezone-aware UTC.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.figures import known_values
from orchestrator.model.outcomes import SUCCESSFUL, Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.stored import MINIMUM_FOR_TREND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from orchestrator.model.flakiness import FlakinessFinding, FlakyTest
    from orchestrator.model.rightsizing import Suggestion
    from orchestrator.model.stored import AttemptRow, RunRecord, RunRow
    from orchestrator.model.tests import TestId
    from orchestrator.model.violations import ViolationKind

PAST_RESOURCES = (
    Resource.MEMORY,
    Resource.CPU,
    Resource.DURATION,
    Resource.PIDS,
    Resource.THROTTLED,
    Resource.READ,
    Resource.WRITE,
)
"""Resources whose figures from before the window are loaded, for trends."""
PRESENT_RESOURCES = (*PAST_RESOURCES, Resource.MEMORY_RATIO, Resource.TIME_RATIO)
"""Resources whose figures within the window are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptHistory:
    """Judged attempts of a test, oldest first, as columns: a report has tens of thousands of them."""

    run_ids: Sequence[str] = ()
    outcomes: Sequence[Outcome] = ()
    finals: Sequence[bool] = ()
    """True for each attempt that decided its test."""
    figures: Mapping[Resource, Sequence[float | None]] = field(default_factory=dict)
    """Resource -> a figure for each attempt; None: not measured. Empty if there are no attempts."""
    highest: Mapping[Resource, float] | None = None
    """Resource -> largest figure, where these are only the newest attempts of a longer time. None: they are all.
    """
    _measured: dict[Resource, Sequence[float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Cache of `measured`: a page calls it a dozen times for each test. The next two cache `maximum` and `median`.
    """
    _maxima: dict[Resource, float | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _medians: dict[Resource, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of attempts; an empty history is false."""
        return len(self.run_ids)

    def measured(self, resource: Resource) -> Sequence[float]:
        """Return the measured figures of a resource, oldest first. KeyError: the resource was not loaded."""
        if resource not in self._measured:
            self._measured[resource] = known_values(self.figures[resource]) if self.run_ids else ()
        return self._measured[resource]

    def maximum(self, resource: Resource) -> float | None:
        """Return the largest figure of a resource; None: never measured."""
        if self.highest is not None:
            return self.highest.get(resource)
        if resource not in self._maxima:
            self._maxima[resource] = max(self.measured(resource), default=None)
        return self._maxima[resource]

    def median(self, resource: Resource) -> float:
        """Return the median figure of a resource. StatisticsError: never measured."""
        if resource not in self._medians:
            self._medians[resource] = median(self.measured(resource))
        return self._medians[resource]

    def newest(self, count: int) -> AttemptHistory:
        """Return the newest `count` attempts."""
        return AttemptHistory(
            run_ids=self.run_ids[-count:],
            outcomes=self.outcomes[-count:],
            finals=self.finals[-count:],
            figures={resource: column[-count:] for resource, column in self.figures.items()},
        )

    @property
    def deciding_outcomes(self) -> Iterator[Outcome]:
        """Outcomes of the attempts that decided the test, newest first."""
        pairs = zip(reversed(self.outcomes), reversed(self.finals), strict=True)
        return (outcome for outcome, final in pairs if final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A test's time series as columns, one for each figure that a report draws; all have the same length."""

    at_seconds: Sequence[float] = ()
    memory_bytes: Sequence[float | None] = ()
    cpu_seconds: Sequence[float | None] = ()
    pids: Sequence[float | None] = ()

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.at_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyTest:
    """A test that ran within the report's window."""

    test_id: TestId
    attempts: tuple[AttemptRow, ...]
    """Attempts, in order, of the run in which the test was last decided."""
    last: AttemptRow
    """The newest deciding attempt."""
    samples: Series
    """Time series of `last`."""
    now: AttemptHistory
    """Judged attempts within the window, with figures of `PRESENT_RESOURCES`."""
    before: AttemptHistory
    """Judged attempts before the window, with figures of `PAST_RESOURCES`."""
    kinds_before: frozenset[ViolationKind] = frozenset()
    """Kinds of violations of the last deciding attempt before the window."""

    @property
    def outcome(self) -> Outcome:
        """Outcome of the test in its last run."""
        return self.last.test_outcome or self.last.outcome

    @property
    def outcome_before(self) -> Outcome | None:
        """Outcome of the last deciding attempt before the window; None: the test is new."""
        return next(self.before.deciding_outcomes, None)

    @property
    def failing(self) -> bool:
        """True if the test neither passed nor was skipped."""
        return self.outcome not in SUCCESSFUL

    @property
    def newly_failing(self) -> bool:
        """True if the test fails, and before the window passed, was skipped or did not exist."""
        return self.failing and (self.outcome_before is None or self.outcome_before in SUCCESSFUL)

    @property
    def fixed(self) -> bool:
        """True if the test passes, and failed before the window."""
        before = self.outcome_before
        return self.outcome is Outcome.PASSED and before is not None and before not in SUCCESSFUL

    @property
    def kinds(self) -> frozenset[ViolationKind]:
        """Kinds of violations of the last deciding attempt."""
        return frozenset(violation.kind for violation in self.last.violations)

    def maximum(self, resource: Resource) -> float | None:
        """Return the largest figure within the window; None: never measured."""
        return self.now.maximum(resource)

    def history(self, resource: Resource) -> tuple[float, ...]:
        """Return all measured figures of a resource, oldest first, up to the end of the window."""
        return (*self.before.measured(resource), *self.now.measured(resource))

    def change(self, resource: Resource) -> float | None:
        """Return the change of the median from before the window; 0.25: 25 % more. None: too few attempts."""
        before, now = self.before, self.now
        if len(before.measured(resource)) < MINIMUM_FOR_TREND or not now.measured(resource):
            return None
        usual = before.median(resource)
        return now.median(resource) / usual - 1 if usual else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Total cost of the runs within a window."""

    runs: int
    attempts: int
    wall_seconds: float
    """Total duration of the runs that ended."""
    cpu_seconds: float | None
    """Total CPU time of all attempts; None: measured in no attempt."""
    test_seconds: float
    """Total duration of all attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nightly:
    """The content of a nightly report: the runs and tests of a window, compared with the time before."""

    since: datetime | None
    until: datetime
    made_at: datetime
    orch_version: str
    runs: tuple[RunRow, ...]
    """Runs that began within the window, newest first."""
    main: RunRecord | None
    """The run whose timeline is shown: the one with the most tests, among equals the newest."""
    tests: tuple[NightlyTest, ...]
    """Tests ordered by name."""
    began: Mapping[str, datetime] = field(default_factory=dict)
    """Run id -> start of the first attempt of the run; oldest run first."""
    gone: tuple[TestId, ...] = ()
    """Tests of the preceding window that did not run in this one."""
    cost: Cost
    cost_before: Cost | None = None
    """Cost of the preceding window of the same length; None: nothing ran in it, or there is no such window."""

    @property
    def compares(self) -> bool:
        """True if any test has a history before the window, so that changes can be reported."""
        return any(test.before for test in self.tests)

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """Outcome -> number of tests that ended with it in their last run."""
        return Counter(test.outcome for test in self.tests)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAnalysis:
    """Results of the analysis of the tests' history."""

    flaky: tuple[tuple[FlakyTest, FlakinessFinding], ...] = ()
    """Flaky tests with their causes, the highest failure rate first."""
    advice: tuple[Suggestion, ...] = ()
    """Suggestion for each test's profile, the most urgent first."""
    minimum_runs: int = 0
    """Number of runs that advice needs."""

    @property
    def flaky_ids(self) -> frozenset[TestId]:
        """Ids of the flaky tests."""
        return frozenset(test.test_id for test, _ in self.flaky)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTails:
    """The last bytes of an attempt's output streams, unchanged."""

    stdout: bytes = b""
    stderr: bytes = b""

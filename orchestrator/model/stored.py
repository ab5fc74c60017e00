"""Records that the resource database returns and reports print.

Units are in the names, a missing figure is `None`, and times are timezone-aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.model.evidence import Attestation, SlotUse, Timings
    from orchestrator.model.outcomes import CaseResult, Outcome
    from orchestrator.model.profiles import Limits
    from orchestrator.model.resources import Resource, Unit
    from orchestrator.model.results import Verb
    from orchestrator.model.runs import EngineInfo, HostInfo, Ledger, RunStatus
    from orchestrator.model.tests import TestId
    from orchestrator.model.usage import Usage
    from orchestrator.model.violations import Violation

MINIMUM_FOR_TREND = 3
"""Number of attempts that each of two windows needs before their figures are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """A project in the database."""

    id: str
    name: str
    """Name of the project's folder in its last run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One stored run, without its attempts."""

    id: str
    """UUID; users read and type its first 8 digits."""
    started_at: datetime
    status: RunStatus
    argv: tuple[str, ...]
    """Command line, with passwords and tokens replaced by `***`."""
    project: str
    """Name of the project's folder at that time."""
    project_id: str
    config_digest: str
    orch_version: str
    engine: EngineInfo
    host: HostInfo
    images: Mapping[str, str] = field(default_factory=dict)
    """Image name -> pinned id."""
    revision: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    exit_code: int | None = None
    """None: the run has not ended, or was killed."""
    duration_seconds: float | None = None
    planned_tests: int = 0
    """Number of planned tests times repetitions."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Numbers of tests: `tests` (all), `flaky`, `violations`, and one for each outcome."""

    @property
    def short_id(self) -> str:
        """The first 8 digits of the id."""
        return self.id[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One stored attempt of a test."""

    id: str
    run_id: str
    test_id: TestId
    suite: str
    repetition: int
    attempt: int
    profile: str
    reason: str
    """Reason why the test ran under this profile."""
    clamped: tuple[str, ...] = ()
    outcome: Outcome
    message: str
    exit_code: int | None
    signal: int | None
    witnesses: int
    slot: SlotUse
    """Use of the container. Its note is not stored in the database but in metrics.json."""
    started_at: datetime
    timings: Timings
    limits: Limits
    """The effective limits."""
    usage: Usage
    attestation: Attestation | None
    """Effective settings of the container, with its name, id and image."""
    stdout_bytes: int
    """Bytes that the test wrote, of which `stdout_kept_bytes` were kept."""
    stdout_kept_bytes: int
    stderr_bytes: int
    stderr_kept_bytes: int
    outputs_count: int
    """Number of files that were copied from `$ORCH_OUTPUT_DIR`."""
    violations: tuple[Violation, ...] = ()
    cases: tuple[CaseResult, ...] = ()
    samples_count: int = 0
    """Number of points of the time series; `queries.load_samples` reads them."""
    final: bool
    """True for the deciding attempt; the next three fields are None for the others."""
    test_outcome: Outcome | None = None
    verb: Verb | None = None
    flaky: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One stored run with its attempts and all other details."""

    run: RunRow
    attempts: tuple[AttemptRow, ...]
    """Attempts ordered by test, repetition and number."""
    not_run: tuple[TestId, ...] = ()
    """Planned tests without a result in at least one repetition."""
    ledger: Ledger | None = None
    """None: the run did not end regularly."""

    @property
    def final_attempts(self) -> tuple[AttemptRow, ...]:
        """The deciding attempt of each test and repetition."""
        return tuple(a for a in self.attempts if a.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Usage of one resource by one test over a window. Percentiles are values that occurred, not interpolated."""

    test_id: TestId
    resource: str
    """`Resource.key`, such as `memory_peak` or `cpu`."""
    unit: Unit
    count: int
    """Number of attempts that have the figure."""
    maximum: float
    mean: float
    p50: float
    p95: float
    p99: float
    before_count: int = 0
    """Number of attempts with the figure in the preceding window of the same length; 0 if there is no such window.
    """
    before_p50: float | None = None
    history: tuple[float, ...] = ()
    """Values for a sparkline: the window's attempts in order of time, as the maxima of a few equal parts."""

    @property
    def trend(self) -> float | None:
        """Change of the median from the preceding window; 0.25: 25 % more. None: too few attempts."""
        if min(self.count, self.before_count) < MINIMUM_FOR_TREND or not self.before_p50:
            return None
        return self.p50 / self.before_p50 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OffenderRow:
    """A test's attempt with the highest value within a window, by which the test is ranked."""

    rank: int
    by: Resource
    value: float
    """The value that determines the rank, in the unit `by.unit`."""
    test_id: TestId
    suite: str
    profile: str
    outcome: Outcome
    memory_peak_bytes: int | None
    memory_peak_is_upper_bound: bool
    limit_memory_bytes: int
    memory_ratio: float | None
    """Peak divided by the limit, 0 to 1."""
    cpu_seconds: float | None
    duration_seconds: float
    attempts: int
    """Number of the test's attempts within the window that have the figure."""
    run_id: str
    attempt_id: str
    started_at: datetime
    memory_floor_bytes: int | None = None
    """Memory that was charged to the container before the test began."""
    usage: UsageRow | None = None
    """Usage of the same resource over the whole window, with its trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationRow:
    """One stored violation of a test's deciding attempt."""

    run_id: str
    attempt_id: str
    test_id: TestId
    profile: str
    outcome: Outcome
    started_at: datetime
    violation: Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeChange:
    """A test whose outcome differs between two runs."""

    test_id: TestId
    before: Outcome
    after: Outcome
    message: str
    """Message of the later attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageChange:
    """A figure of a test that differs much between two runs; in each run the highest of the repetitions."""

    test_id: TestId
    resource: str
    """`Resource.key`, as in `UsageRow`."""
    unit: Unit
    before: float
    after: float

    @property
    def ratio(self) -> float | None:
        """The later figure divided by the earlier one; None if the earlier one is zero."""
        return self.after / self.before if self.before else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """Differences between two runs."""

    before: RunRow
    after: RunRow
    outcome_changes: tuple[OutcomeChange, ...] = ()
    usage_changes: tuple[UsageChange, ...] = ()
    """Changes of figures, largest relative change first."""
    only_before: tuple[TestId, ...] = ()
    only_after: tuple[TestId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """Size of one table of the resource database."""

    name: str
    rows: int
    bytes: int | None
    """Size of the table with its indexes; None: this SQLite does not provide it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSize:
    """Size of the resource database, and the period it covers."""

    place: str
    schema: int
    bytes: int
    free_bytes: int | None
    """Bytes that `orch db vacuum` would release at least; None: not known."""
    oldest_run_at: datetime | None
    newest_run_at: datetime | None
    first_day: str | None
    """First day that has daily sums, such as `2026-03-01`."""
    days_not_summed_up: int
    """Number of days without daily sums: today, and days that wait for the end of a run or for a prune."""
    tables: tuple[TableSize, ...] = ()

"""What the resource database answers with, and what reports print: frozen values, no SQL in sight.

Units are in the names, a missing figure is `None`, times are timezone-aware UTC, as in `model`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.model.resources import HEADLINES as HEADLINES  # noqa: PLC0414 - these three are exported again
from orchestrator.model.resources import Resource as Resource  # noqa: PLC0414, TC001
from orchestrator.model.resources import Unit as Unit  # noqa: PLC0414, TC001

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.model.evidence import Attestation, SlotUse, Timings
    from orchestrator.model.outcomes import CaseResult, Outcome, Violation
    from orchestrator.model.profiles import Limits
    from orchestrator.model.results import Verb
    from orchestrator.model.runs import EngineInfo, HostInfo, Ledger, RunStatus
    from orchestrator.model.tests import TestId
    from orchestrator.model.usage import Usage

MINIMUM_FOR_TREND = 3
"""Attempts that each of two windows must have before their figures are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """A project that the database knows."""

    id: str
    name: str
    """Of its folder, when it last ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One stored run, without its tests."""

    id: str
    """UUID; its first 8 digits are what users read and type."""
    started_at: datetime
    status: RunStatus
    argv: tuple[str, ...]
    """As typed, with passwords and tokens replaced by `***`."""
    project: str
    """Name of its folder then."""
    project_id: str
    config_digest: str
    orch_version: str
    engine: EngineInfo
    host: HostInfo
    images: Mapping[str, str] = field(default_factory=dict)
    """Image name -> pinned ID."""
    revision: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    exit_code: int | None = None
    """None: running, or ended without a word."""
    duration_seconds: float | None = None
    planned_tests: int = 0
    """Tests times repetitions that the run set out to do."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """As `RunSummary.counts`: `tests`, `flaky`, `violations`, and one for each outcome."""

    @property
    def short_id(self) -> str:
        """The first 8 digits."""
        return self.id[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One stored attempt: a test, in one container, once."""

    id: str
    run_id: str
    test_id: TestId
    suite: str
    repetition: int
    attempt: int
    profile: str
    reason: str
    """Why the test ran under this profile."""
    clamped: tuple[str, ...] = ()
    outcome: Outcome
    message: str
    exit_code: int | None
    signal: int | None
    witnesses: int
    slot: SlotUse
    """Without its note, which is in metrics.json."""
    started_at: datetime
    timings: Timings
    limits: Limits
    """The effective ones."""
    usage: Usage
    attestation: Attestation | None
    """What the container was; has its name, its id and its image."""
    stdout_bytes: int
    """All that the test wrote; `stdout_kept_bytes` of it were kept."""
    stdout_kept_bytes: int
    stderr_bytes: int
    stderr_kept_bytes: int
    outputs_count: int
    """Files that came back from `$ORCH_OUTPUT_DIR`."""
    violations: tuple[Violation, ...] = ()
    cases: tuple[CaseResult, ...] = ()
    samples_count: int = 0
    """Points of the time series; `queries.load_samples` reads them."""
    final: bool
    """The attempt that decided; the next three are None for the others."""
    test_outcome: Outcome | None = None
    verb: Verb | None = None
    flaky: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One stored run with everything that is known of it."""

    run: RunRow
    attempts: tuple[AttemptRow, ...]
    """Ordered by test, repetition, attempt."""
    not_run: tuple[TestId, ...] = ()
    """Planned, and without a result in every repetition."""
    ledger: Ledger | None = None
    """None: the run never came to its end."""

    @property
    def final_attempts(self) -> tuple[AttemptRow, ...]:
        """The deciding attempt of each test and repetition."""
        return tuple(a for a in self.attempts if a.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one test used of one resource over a window. Percentiles are values that really occurred."""

    test_id: TestId
    resource: str
    """`Resource.key`: `memory_peak`, `cpu`, `duration`, `memory_ratio`, …"""
    unit: Unit
    count: int
    """Attempts that have the figure."""
    maximum: float
    mean: float
    p50: float
    p95: float
    p99: float
    before_count: int = 0
    """Attempts with the figure in the window of the same length before; 0 too where there is none."""
    before_p50: float | None = None
    history: tuple[float, ...] = ()
    """The window's attempts in order of time, as the maxima of a few equal parts: a sparkline."""

    @property
    def trend(self) -> float | None:
        """Change of the median since the window before: 0.25 is a quarter more. None: too few attempts."""
        if min(self.count, self.before_count) < MINIMUM_FOR_TREND or not self.before_p50:
            return None
        return self.p50 / self.before_p50 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OffenderRow:
    """A test at its worst within a window: figures are those of the one attempt that made its rank."""

    rank: int
    by: Resource
    value: float
    """What it was ranked by: bytes, seconds, a count or a ratio, as `by.unit` says."""
    test_id: TestId
    suite: str
    profile: str
    outcome: Outcome
    memory_peak_bytes: int | None
    memory_peak_is_upper_bound: bool
    limit_memory_bytes: int
    memory_ratio: float | None
    """Peak over limit, 0 to 1."""
    cpu_seconds: float | None
    duration_seconds: float
    attempts: int
    """Attempts of this test within the window that have the figure."""
    run_id: str
    attempt_id: str
    started_at: datetime
    memory_floor_bytes: int | None = None
    """What stood charged before it."""
    usage: UsageRow | None = None
    """The same resource over the whole window, with its trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationRow:
    """One violation of a test's deciding attempt, and where it was seen."""

    run_id: str
    attempt_id: str
    test_id: TestId
    profile: str
    outcome: Outcome
    started_at: datetime
    violation: Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeChange:
    """A test that ended otherwise than before."""

    test_id: TestId
    before: Outcome
    after: Outcome
    message: str
    """Of the later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageChange:
    """A figure of a test that is much larger or smaller than before (the worst of its repetitions)."""

    test_id: TestId
    resource: str
    """As in `UsageRow`."""
    unit: Unit
    before: float
    after: float

    @property
    def ratio(self) -> float | None:
        """Later over earlier; None where the earlier one is zero."""
        return self.after / self.before if self.before else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """What changed from one run to another."""

    before: RunRow
    after: RunRow
    outcome_changes: tuple[OutcomeChange, ...] = ()
    usage_changes: tuple[UsageChange, ...] = ()
    """Largest relative change first."""
    only_before: tuple[TestId, ...] = ()
    only_after: tuple[TestId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """One table of the resource database."""

    name: str
    rows: int
    bytes: int | None
    """With its indexes; None: this SQLite cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSize:
    """How large the resource database is, and from when to when it reaches."""

    place: str
    schema: int
    bytes: int
    free_bytes: int | None
    """Of them, what `orch db vacuum` would give back at least; None: not known."""
    oldest_run_at: datetime | None
    newest_run_at: datetime | None
    first_day: str | None
    """The first day that is summed up, `2026-03-01`."""
    days_not_summed_up: int
    """Today, and days that await the end of a run or a prune."""
    tables: tuple[TableSize, ...] = ()

"""TO BE WRITTEN."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import compress
from typing import TYPE_CHECKING

from orchestrator.model.evidence import Launch
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.model.tests import TestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one past attempt says of what its test needs, and the limits that it ran under."""

    run_id: str
    outcome: Outcome
    duration_seconds: float
    cpu_seconds: float | None
    memory_peak_bytes: int | None
    """The test's own."""
    memory_peak_is_upper_bound: bool = False
    memory_floor_bytes: int | None = None
    """What stood charged before it."""
    launch: str = Launch.PROCESS
    pids_peak: int | None = None
    pids_limit_hits: int | None = None
    oom_kills: int | None = None
    throttled_seconds: float | None = None
    limit_cpus: float
    limit_memory_bytes: int
    limit_timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """Past attempts of a test: of each fact of `Observation` a column, because there are tens of thousands."""

    run_id: Sequence[str] = ()
    outcome: Sequence[Outcome] = ()
    duration_seconds: Sequence[float] = ()
    cpu_seconds: Sequence[float | None] = ()
    memory_peak_bytes: Sequence[int | None] = ()
    memory_peak_is_upper_bound: Sequence[bool] = ()
    memory_floor_bytes: Sequence[int | None] = ()
    launch: Sequence[str] = ()
    pids_peak: Sequence[int | None] = ()
    pids_limit_hits: Sequence[int | None] = ()
    oom_kills: Sequence[int | None] = ()
    throttled_seconds: Sequence[float | None] = ()
    limit_cpus: Sequence[float] = ()
    limit_memory_bytes: Sequence[int] = ()
    limit_timeout_seconds: Sequence[float] = ()

    @classmethod
    def of(cls, attempts: Iterable[Observation]) -> Observations:
        """The columns of these, in their order."""
        some = tuple(attempts)
        return cls(**{fact: tuple(getattr(one, fact) for one in some) for fact in cls.__slots__})

    def __len__(self) -> int:
        """Attempts."""
        return len(self.run_id)

    @property
    def all_passed(self) -> bool:
        """Whether each of them did, as most do."""
        return self.outcome.count(Outcome.PASSED) == len(self.outcome)

    def where(self, wanted: Sequence[bool]) -> Observations:
        """Those attempts of which `wanted` is true."""
        return Observations(**{fact: tuple(compress(getattr(self, fact), wanted)) for fact in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """What one test used in one run: the median of its repetitions that passed."""

    run_id: str
    memory_peak_bytes: float | None
    duration_seconds: float
    cpu_seconds: float | None
    machine: str | None = None
    """Digest of the machine's id; None: not known."""
    launch: str | None = None
    """How it was started where its memory was measured: figures of different kinds are not compared."""


class Advice(StrEnum):
    """What is said of a test's profile."""

    SMALLER = "smaller"
    FITS = "fits"
    LARGER = "larger"
    NONE_HOLDS = "none holds"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a profile must grant; margins are in it."""

    cpus: float | None
    memory_bytes: int
    timeout_seconds: float
    pids: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What one test needs, and which profile grants it."""

    test_id: TestId
    current: str
    advice: Advice
    suggested: str | None
    """Another profile than the present one; None: none is better."""
    runs: int
    """Runs in which the test passed and was measured."""
    missing_runs: int
    """So many more are needed before anything is said."""
    attempts: int = 0
    need: Need | None = None
    """Under the CPUs of the profile that is proposed, else of the present one."""
    saved_memory_bytes: int = 0
    """Granted less at a time; negative: more."""
    saved_cpus: float = 0.0
    saved_timeout_seconds: float = 0.0
    duration_seconds: float | None = None
    """Median."""
    reason: str = ""


class Judgement(StrEnum):
    """What is known of one figure of one test."""

    GROWN = "grown"
    """The gate is broken."""
    SUSPECTED = "suspected"
    """Above the tolerance, with too few new runs to tell it from chance."""
    UNCHANGED = "unchanged"
    TOO_FEW = "too few runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of one test, new runs against old ones, and how it was judged."""

    judgement: Judgement
    before: float | None
    """Median of the old runs."""
    now: float | None
    """Median of the new ones."""
    growth: float | None
    """Estimate; 0.15: 15 % more."""
    noise_floor: float | None
    """Growth that so many runs in a row may show without a cause."""
    chance: float | None
    """Probability of such a rank sum where nothing changed; None: not worth computing."""
    old_runs: int
    new_runs: int
    missing_runs: int = 0
    """So many more, new or old, are needed for a judgement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One figure of one test, as a gate judged it."""

    test_id: TestId
    resource: str
    """memory, time or cpu."""
    unit: str
    tolerance: float
    """Growth that is allowed; 0.1: 10 %."""
    comparison: Comparison

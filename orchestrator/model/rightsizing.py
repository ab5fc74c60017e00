"""Right-sizing: usage of earlier attempts, and the profile that is suggested for a test."""

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
    """Usage of one earlier attempt, and the limits under which it ran."""

    run_id: str
    outcome: Outcome
    duration_seconds: float
    cpu_seconds: float | None
    memory_peak_bytes: int | None
    """Peak of the test's own memory, without the floor."""
    memory_peak_is_upper_bound: bool = False
    memory_floor_bytes: int | None = None
    """Memory that was charged to the container before the test began."""
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
    """Observations of one test as columns: one sequence for each field of `Observation`. Columns take less memory
    and time than objects where there are tens of thousands of attempts.
    """

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
        """Return the observations as columns, in the given order."""
        some = tuple(attempts)
        return cls(**{fact: tuple(getattr(one, fact) for one in some) for fact in cls.__slots__})

    def __len__(self) -> int:
        """Return the number of attempts."""
        return len(self.run_id)

    @property
    def all_passed(self) -> bool:
        """True if every attempt passed."""
        return self.outcome.count(Outcome.PASSED) == len(self.outcome)

    def where(self, wanted: Sequence[bool]) -> Observations:
        """Return the attempts for which `wanted` is true."""
        return Observations(**{fact: tuple(compress(getattr(self, fact), wanted)) for fact in self.__slots__})


class Advice(StrEnum):
    """Kind of advice about a test's profile."""

    SMALLER = "smaller"
    FITS = "fits"
    LARGER = "larger"
    NONE_HOLDS = "none holds"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The limits that a profile must at least have for a test, safety margins included."""

    cpus: float | None
    memory_bytes: int
    timeout_seconds: float
    pids: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Limits that one test needs, and the profile that is suggested for it."""

    test_id: TestId
    current: str
    advice: Advice
    suggested: str | None
    """Profile to use instead of the current one; None: no other profile is better."""
    runs: int
    """Number of runs in which the test passed and was measured."""
    missing_runs: int
    """Number of further runs that are needed before advice is given."""
    attempts: int = 0
    need: Need | None = None
    """Limits that the test needs with the CPUs of the suggested profile, else with those of the current one."""
    saved_memory_bytes: int = 0
    """Reduction of the memory limit by the suggestion; negative: an increase."""
    saved_cpus: float = 0.0
    saved_timeout_seconds: float = 0.0
    duration_seconds: float | None = None
    """Median duration."""
    reason: str = ""

"""Tests: their identity, their command, their history, and the profile they are assigned to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.model.suites import Preload, ResultsFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model.outcomes import Outcome
    from orchestrator.model.profiles import Profile


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TestId:
    """Identity of a test within a project: stable between runs and machines."""

    __test__ = False  # not a pytest class

    path: str
    """POSIX path relative to the project's root."""
    case: str | None = None
    """The runner's name of a case inside the file (pytest: the part after the first `::`)."""

    def __str__(self) -> str:
        return self.path if self.case is None else f"{self.path}::{self.case}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Command that runs a test inside a container, and the format of its results."""

    argv: tuple[str, ...]
    """Program and arguments; `{output_dir}` is replaced by the container's `$ORCH_OUTPUT_DIR`."""
    working_dir: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    results: ResultsFormat = ResultsFormat.EXIT_CODE
    results_file: str | None = None
    """Path of the JUnit file relative to the output folder; None: results are TAP on stdout, or the exit code."""
    skip_exit_codes: frozenset[int] = frozenset()
    """Exit codes that mean "nothing was run" (pytest 5, automake's 77)."""
    preload: Preload = Preload.OFF
    """Part of the runner that a reused slot starts once for all its tests of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One schedulable test that a suite found."""

    __test__ = False

    id: TestId
    suite: str
    command: Command
    markers: frozenset[str] = frozenset()
    profile_hint: str | None = None
    """Profile named by a comment `orch: profile=NAME` near the top of the file."""
    suite_profile: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Statistics of a test's earlier attempts (at least one), for ordering and admission."""

    attempts: int
    duration_seconds_p95: float
    memory_bytes_p95: int | None
    cpus_p95: float | None
    """95th percentile of the CPU seconds per second of duration."""
    last_outcome: Outcome
    unclean: str | None = None
    """The reason to doubt the test in a reused container: traces or changes that one of its newest attempts left,
    or a failure that a fresh container did not confirm; None: there is none.
    """
    memory_refused_bytes: int | None = None
    """The largest memory limit at which the test was recently killed for memory; None: it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A test with the profile it runs under and the reason for that profile: what an executor runs."""

    run_id: str
    test: Test
    profile: Profile
    """Profile with the effective limits: overrides by rules are applied, and limits are clamped to the host."""
    reason: str
    clamped: tuple[str, ...] = ()
    """A notice for each limit that was lowered to what the host has."""
    attempt: int = 1
    repetition: int = 1
    """Number of the repetition, 1 to N of --repeat N."""
    retries: int = 0
    exclusive: bool = False
    group: str | None = None
    history: History | None = None

    @property
    def key(self) -> str:
        """Name that is unique within a run: the test's id, with `#N` added from the second repetition on."""
        name = str(self.test.id)
        return name if self.repetition == 1 else f"{name}#{self.repetition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledTest:
    """Time and worker at which a test of a plan is expected to run."""

    assignment: Assignment
    worker: int
    """The number of the worker, from 0."""
    started_seconds: float
    """Seconds after the start of the run; where a container is started for the test, when that begins."""
    ended_seconds: float
    fresh: bool
    """True if a new container is created for it; False: it reuses the container of earlier tests."""

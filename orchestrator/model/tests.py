"""TO BE WRITTEN."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model.outcomes import Outcome
    from orchestrator.model.profiles import Profile


class Runner(StrEnum):
    """How a suite's tests are listed, started and read."""

    PYTEST = "pytest"
    SHELL = "shell"
    COMMAND = "command"


class ResultsFormat(StrEnum):
    """Where the cases inside a test come from."""

    JUNIT = "junit"
    TAP = "tap"
    EXIT_CODE = "exit-code"


class Granularity(StrEnum):
    """What gets a scope of its own: a file, or each case that the runner can list."""

    FILE = "file"
    CASE = "case"


class Preload(StrEnum):
    """How far a runner may be started once for many tests, each of which is then forked from it."""

    OFF = "off"
    """Each test starts a program of its own."""
    START = "start"
    """The interpreter, the runner and its plugins are there; a test is collected after the fork."""
    COLLECT = "collect"
    """The tests are collected too: their modules have been imported before the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Which files are tests, and how they are run."""

    name: str
    match: tuple[str, ...]
    """Globs relative to the project's root; `**` spans folders."""
    exclude: tuple[str, ...] = ()
    runner: Runner
    command: tuple[str, ...] = ()
    """Template for Runner.COMMAND (`{test}`, `{name}`, `{output_dir}`), extra arguments for the others."""
    results: ResultsFormat | None = None
    """None: the runner's own (pytest: junit, shell and command: exit-code)."""
    granularity: Granularity = Granularity.FILE
    preload: Preload = Preload.OFF
    """Only where a profile's slots are reused, and only for pytest."""
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    """Names of host variables that are handed through."""
    profile: str | None = None
    """Profile of the suite's tests where no rule matches."""
    working_dir: str = "."
    """Relative to the project's root; must stay inside it."""


# ---------------------------------------------------------------- what is run


class LeftOutReason(StrEnum):
    """Why tests that plain pytest, or a suite's globs, would find are not run. Each completes "3 not run: "."""

    OUTSIDE = "they lead out of the project"
    BEHIND_LINKS = "they are behind links that are not followed"
    UNREADABLE = "their folder cannot be read"
    NOT_UTF8 = "their names are not UTF-8"
    PLACEHOLDER = "their names contain {output_dir}, which stands for the outputs folder in commands"
    NO_SUITE = "pytest's python_files matches them, no suite does"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A test, or a folder of tests, that a search for tests came upon and that cannot run."""

    path: str
    """Relative to the project's root; what is not UTF-8 as escapes."""
    reason: LeftOutReason


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TestId:
    """Identity of a test within a project: stable between runs and machines."""

    __test__ = False  # not a pytest class

    path: str
    """POSIX path relative to the project's root."""
    case: str | None = None
    """The runner's own name of a case inside the file (pytest: what follows the first `::`)."""

    def __str__(self) -> str:
        return self.path if self.case is None else f"{self.path}::{self.case}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a test is started inside a container, and how its result is read."""

    argv: tuple[str, ...]
    """May contain `{output_dir}`, replaced by the container's `$ORCH_OUTPUT_DIR`."""
    working_dir: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    results: ResultsFormat = ResultsFormat.EXIT_CODE
    results_file: str | None = None
    """Relative to the output folder; JUnit there, or None: TAP on stdout."""
    skip_exit_codes: frozenset[int] = frozenset()
    """Exit codes that mean "nothing was run" (pytest 5, automake's 77)."""
    preload: Preload = Preload.OFF
    """What a slot that is reused may do once for all its tests of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One schedulable test, as found by a suite."""

    __test__ = False

    id: TestId
    suite: str
    command: Command
    markers: frozenset[str] = frozenset()
    profile_hint: str | None = None
    """From a comment `orch: profile=NAME` near the top of the file."""
    suite_profile: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the database knows of a test, for ordering and admission. From at least one earlier attempt."""

    attempts: int
    duration_seconds_p95: float
    memory_bytes_p95: int | None
    cpus_p95: float | None
    """CPU seconds per second of duration."""
    last_outcome: Outcome
    memory_refused_bytes: int | None = None
    """The largest limit at which it was out of memory lately; None: it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A test, the profile it runs under, and why. The unit that an executor takes."""

    run_id: str
    test: Test
    profile: Profile
    """With effective limits: rule overrides applied, clamped to the host."""
    reason: str
    clamped: tuple[str, ...] = ()
    """Notices of limits that were lowered to what the host has."""
    attempt: int = 1
    repetition: int = 1
    """1 to N of --repeat N."""
    retries: int = 0
    exclusive: bool = False
    group: str | None = None
    history: History | None = None

    @property
    def key(self) -> str:
        """Names a test among those that run at the same time: its id, and which repetition it is."""
        name = str(self.test.id)
        return name if self.repetition == 1 else f"{name}#{self.repetition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledTest:
    """When and on which worker a test of a plan is expected to run."""

    assignment: Assignment
    worker: int
    """The number of the worker, from 0."""
    started_seconds: float
    """Seconds after the start of the run; where a container is started for the test, when that begins."""
    ended_seconds: float
    fresh: bool
    """True if a new container is created for it; False: it reuses the container of earlier tests."""

"""Test suites: their files and runners, and the tests that a search found and left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Runner(StrEnum):
    """The program that lists, starts and reports the tests of a suite."""

    PYTEST = "pytest"
    SHELL = "shell"
    COMMAND = "command"


class ResultsFormat(StrEnum):
    """Format from which the cases inside a test are read."""

    JUNIT = "junit"
    TAP = "tap"
    EXIT_CODE = "exit-code"


class Granularity(StrEnum):
    """Unit that is scheduled as one test: a file, or each case that the runner can list."""

    FILE = "file"
    CASE = "case"


class Preload(StrEnum):
    """Part of a runner that is started once per slot; each test is then forked from it."""

    OFF = "off"
    """Nothing: each test starts a program of its own."""
    START = "start"
    """Interpreter, runner and plugins; a test is collected after the fork."""
    COLLECT = "collect"
    """Interpreter, runner, plugins and collection: test modules are imported before the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A set of test files, and the way in which they are run."""

    name: str
    match: tuple[str, ...]
    """Globs relative to the project's root; `**` spans folders."""
    exclude: tuple[str, ...] = ()
    runner: Runner
    command: tuple[str, ...] = ()
    """Template of the command for Runner.COMMAND (`{test}`, `{name}`, `{output_dir}`); extra arguments for others.
    """
    results: ResultsFormat | None = None
    """None: the runner's default (pytest: junit; shell and command: exit-code)."""
    granularity: Granularity = Granularity.FILE
    preload: Preload = Preload.OFF
    """Part of the runner that is preloaded; only for pytest, in profiles that reuse slots."""
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    """Names of the host's environment variables that tests get."""
    profile: str | None = None
    """Profile of the suite's tests where no rule matches."""
    working_dir: str = "."
    """Working directory relative to the project's root, and inside it."""


class LeftOutReason(StrEnum):
    """Reason why a test is not run although plain pytest or a suite's globs find it, completing "3 not run: "."""

    OUTSIDE = "they lead out of the project"
    BEHIND_LINKS = "they are behind links that are not followed"
    UNREADABLE = "their folder cannot be read"
    NOT_UTF8 = "their names are not UTF-8"
    PLACEHOLDER = "their names contain {output_dir}, which stands for the outputs folder in commands"
    NO_SUITE = "pytest's python_files matches them, no suite does"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A test, or a folder of tests, that a search for tests found and that cannot be run."""

    path: str
    """Path relative to the project's root; bytes that are not UTF-8 are escaped."""
    reason: LeftOutReason

"""The errors that orch raises on purpose, each with an exit code and a remedy for the user.

`cli.main` catches `OrchError` once, prints `message` and `remedy`, and exits with `exit_code`. Anything else
that reaches it is a defect of orch (`ExitCode.DEFECT`).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of `orch`, besides 128 + n for signal n. `coordinator.exit_code` says which one wins."""

    OK = 0
    TESTS_FAILED = 1
    USAGE = 2
    VIOLATIONS = 3
    NO_TESTS = 4
    INFRA = 36
    DEFECT = 37


class OrchError(Exception):
    """The base class of all errors that are shown to the user, with a message and a remedy."""

    exit_code: ExitCode = ExitCode.DEFECT

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(OrchError):
    """The command line or the environment is invalid."""

    exit_code = ExitCode.USAGE


class ConfigError(OrchError):
    """profiles.yaml is wrong; `message` begins with `file:line:column: `."""

    exit_code = ExitCode.USAGE


class NoTestsError(OrchError):
    """No tests were selected, or a selected one cannot run."""

    exit_code = ExitCode.NO_TESTS


class GateError(OrchError):
    """Violations, or a gate of `orch check`, failed the run."""

    exit_code = ExitCode.VIOLATIONS


class EngineError(OrchError):
    """The container engine failed, so that the results of the affected tests are unknown."""

    exit_code = ExitCode.INFRA


class EngineUnavailableError(EngineError):
    """No engine answers: absent, not running, wrong address, or no permission."""


class StoppedWaitingError(EngineUnavailableError):
    """The run was stopped while it waited for an engine that had gone away."""


class EngineTimeoutError(EngineError):
    """A call to the engine did not answer before its deadline."""


class NotFoundError(EngineError):
    """The engine does not know this container, image, volume or network."""


class ConflictError(EngineError):
    """The engine refuses because of the object's state (name taken, removal in progress)."""


class NoShellError(EngineError):
    """The image has no /bin/sh, so the agent cannot run in it."""


class ImageError(EngineError):
    """An image is missing or could not be built."""


class DatabaseError(OrchError):
    """The resource database cannot be read or written."""

    exit_code = ExitCode.INFRA


class UnusableDatabaseError(DatabaseError):
    """The file is not a resource database, or is damaged, or was written by a later orch. It was not changed."""

    exit_code = ExitCode.USAGE


class StateError(OrchError):
    """A file or folder of the run cannot be written."""

    exit_code = ExitCode.INFRA


class NothingFoundError(OrchError):
    """A run, a test or a file that the user named does not exist."""

    exit_code = ExitCode.USAGE


class Interrupted(OrchError):  # noqa: N818 - it is not an error; the name is the event
    """The user or the system asked orch to stop; the exit code is 128 + `signal_number`."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.signal_number = signal_number

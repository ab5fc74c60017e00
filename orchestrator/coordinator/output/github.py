"""Write GitHub annotations and the step summary of a run."""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note
from orchestrator.errors import UsageError
from orchestrator.reports.formats.github import JOB_LIMIT, STEP_LIMIT, Annotations, resume_commands, stop_commands
from orchestrator.reports.formats.step_summary import LIMIT_BYTES, step_summary
from orchestrator.reports.tables.violations import RunViolations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TextIO

    from orchestrator.model.results import TestResult
    from orchestrator.model.violation_groups import ViolationGroup
    from orchestrator.reports.run_summary import RunSummary

COUNTER = "orch-annotations"
"""The file with the number of annotations that the steps of this job have made, in RUNNER_TEMP, which exists as
long as the job.
"""


class GitHub:
    """Writes annotations to GitHub's runner on `stream`, and the step summary; nothing unless `wanted`."""

    def __init__(
        self, *, wanted: bool, summary_file: Path | None, environ: Mapping[str, str], stream: TextIO
    ) -> None:
        self._on = wanted
        named = environ.get("GITHUB_STEP_SUMMARY") if self._on else None
        self._file = summary_file or (Path(named) if named else None)
        self._named = summary_file is not None
        temporary = environ.get("RUNNER_TEMP")
        self._counter = Path(temporary) / COUNTER if temporary else None
        self._stream = stream
        self._token = ""
        self._annotations = Annotations()
        self._violations = RunViolations()

    def add(self, results: Sequence[TestResult]) -> None:
        """Add the final results of tests."""
        if self._on:
            self._annotations.add(results)
        if self._file is not None:
            self._violations.add(results)

    def suppress_commands(self) -> None:
        """Make the runner ignore commands until `publish`, so that the output of tests cannot contain any."""
        if self._on:
            self._token = secrets.token_hex(16)
            self._say(stop_commands(self._token))
            atexit.register(self.resume_commands)  # an error may end the run before `publish`

    def resume_commands(self) -> None:
        """Let the runner accept commands again; a second call does nothing."""
        if self._token:
            self._say(resume_commands(self._token))
            self._token = ""
            atexit.unregister(self.resume_commands)  # else it keeps this object and its results in memory

    def publish(self, summary: RunSummary) -> None:
        """Write the annotations and the step summary.

        Raises UsageError if a step summary that an option names cannot be written. For the file of GitHub's own
        variable this is only a notice, because it must not change the exit code of the run.
        """
        self.resume_commands()
        if self._on:
            for line in self._counted(lambda room: self._annotations.lines(summary.run, limit=room)):
                self._say(line)
        if self._file is None:
            return
        try:
            append_summary(summary, self._violations.groups(), self._file)
        except UsageError as error:
            if self._named:
                raise
            note(error.message)

    def _counted(self, make: Callable[[int], list[str]]) -> list[str]:
        """Return the lines that `make` returns for the number of annotations that the job has left; count them."""
        with _locked(self._counter) as counter:
            used = _read_number(counter)
            lines = make(min(STEP_LIMIT, JOB_LIMIT - used))
            if counter is not None:
                counter.seek(0)
                counter.truncate()
                counter.write(str(used + len(lines)))
        return lines

    def _say(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


def append_summary(summary: RunSummary, groups: Sequence[ViolationGroup], path: Path) -> None:
    """Append the summary of the run to a file, within GitHub's limit for the whole file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            room = LIMIT_BYTES - os.fstat(stream.fileno()).st_size
            stream.write(step_summary(summary, groups, limit_bytes=room).encode())
    except OSError as error:
        raise UsageError(
            f"cannot write the step summary {path}: {error.strerror}", remedy="name another file"
        ) from error


@contextmanager
def _locked(path: Path | None) -> Iterator[TextIO | None]:
    """Yield the file of the counter under a lock, because steps may run at once; None if there is no such file."""
    stream: TextIO | None = None
    with suppress(OSError):
        stream = None if path is None else path.open("a+", encoding="ascii", errors="replace")
    if stream is None:
        yield None
        return
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _read_number(stream: TextIO | None) -> int:
    if stream is None:
        return 0
    stream.seek(0)
    text = stream.read(20).strip()
    return int(text) if text.isdecimal() and text.isascii() else 0

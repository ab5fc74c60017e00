"""Reads what one test writes, and sorts it: its own output, the agent's record, the archive of its outputs."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from orchestrator.engine import records
from orchestrator.engine.outputs import ArchiveSink

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model import AgentRecord, Assignment, OutputLog

TICK_SECONDS = 0.2
"""How often a silent test's deadline and the stop flag are looked at."""
RETURN_SECONDS = 60.0
"""For the record and the outputs, after the test's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRun:
    """What came out of a slot for one test."""

    record: AgentRecord | None
    begin_counters: str
    end_counters: str
    timed_out: bool
    interrupted: bool
    started_at: datetime
    test_seconds: float
    stdout: OutputLog
    stderr: OutputLog
    outputs: tuple[str, ...]
    outputs_notes: tuple[str, ...]


class Reading(Protocol):
    """What a slot's reader asks while a test runs."""

    @property
    def complete(self) -> bool:
        """Nothing more is to come."""

    @property
    def test_ended(self) -> bool:
        """The test itself is over."""

    def past_deadline(self, now: float) -> bool:
        """The test runs longer than it may."""

    def patience(self, now: float) -> float:
        """How long to wait for output."""

    def overdue(self, now: float) -> bool:
        """What follows the test's end takes too long."""

    def feed(self, stream: str, data: bytes) -> None:
        """The next piece of a stream; empty: it ended."""

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotRun:
        """Everything, once no more is to come."""

    def close(self) -> None:
        """Release the files."""


class _Timed:
    """A test's clock and its two logs."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        limits = assignment.profile.limits
        self.started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._ended: float | None = None
        self.deadline = self._started + limits.timeout_seconds
        self._logs = {
            name: records.LogSink(folder / name, limits.log_bytes, self._started) for name in ("stdout", "stderr")
        }
        self._open = {"stdout", "stderr"}

    @property
    def test_ended(self) -> bool:
        """The test itself is over."""
        return self._ended is not None

    def past_deadline(self, now: float) -> bool:
        """The test runs longer than it may."""
        return self._ended is None and now >= self.deadline

    def patience(self, now: float) -> float:
        """How long to wait for output: to the deadline, at most a tick."""
        return min(TICK_SECONDS, max(0.002, self.deadline - now)) if now < self.deadline else TICK_SECONDS / 4

    def overdue(self, now: float) -> bool:
        """The test has ended, and what follows takes too long."""
        return self._ended is not None and now - self._ended > RETURN_SECONDS

    @property
    def _seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    def close(self) -> None:
        """Release the files."""
        for log in self._logs.values():
            log.close()


class AgentReading(_Timed):
    """The streams of one test that the agent runs, sorted into what they mean."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        super().__init__(assignment, folder)
        self.nonce = secrets.token_hex(16)
        self._folder = folder
        self._cap = assignment.profile.limits.outputs_bytes
        self._begin, self._record, self._reset = records.TextSink(), records.TextSink(), records.TextSink()
        self._archive = ArchiveSink(self._cap)
        sinks = (
            records.TextSink(),
            self._begin,
            self._logs["stdout"],
            self._record,
            self._archive,
            self._reset,
        )
        self._streams = {
            "stdout": records.Sections(self.nonce, records.OUT_MARKS, sinks),
            "stderr": records.Sections(self.nonce, records.ERR_MARKS, (self._logs["stderr"],)),
        }

    @property
    def complete(self) -> bool:
        """Both streams came to the test's end, or ended."""
        return all(self._streams[name].complete for name in self._open)

    def feed(self, stream: str, data: bytes) -> None:
        """The next piece of a stream; empty: it ended."""
        if not data:
            self._open.discard(stream)
            return
        sections = self._streams[stream]
        sections.feed(data)
        if self._ended is None and stream == "stdout" and sections.passed > records.OUT_MARKS.index("end"):
            self._ended = time.monotonic()

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotRun:
        """Everything, once no more is to come."""
        for sections in self._streams.values():
            sections.flush()
        parsed = None
        if self._streams["stdout"].complete and self._streams["stderr"].complete:
            parsed = records.parse_record(self._record.text, self._reset.text)
        outputs, notes = self._archive.extract(self._folder / "outputs", self._cap)
        return SlotRun(
            record=parsed[0] if parsed else None,
            begin_counters=self._begin.text,
            end_counters=parsed[1] if parsed else "",
            timed_out=timed_out,
            interrupted=interrupted,
            started_at=self.started_at,
            test_seconds=self._seconds,
            stdout=self._logs["stdout"].close(),
            stderr=self._logs["stderr"].close(),
            outputs=outputs,
            outputs_notes=notes,
        )

    def close(self) -> None:
        """Release the files."""
        super().close()
        self._archive.close()


class PlainReading(_Timed):
    """The streams of a test that is the container's own process: it ends when they end."""

    @property
    def complete(self) -> bool:
        """Both streams ended."""
        return not self._open

    def feed(self, stream: str, data: bytes) -> None:
        """The next piece of a stream; empty: it ended."""
        if data:
            self._logs[stream].feed(data)
            return
        self._open.discard(stream)
        if not self._open:
            self._ended = time.monotonic()

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotRun:
        """Everything; there is no record, and no way for outputs to come back."""
        return SlotRun(
            record=None,
            begin_counters="",
            end_counters="",
            timed_out=timed_out,
            interrupted=interrupted,
            started_at=self.started_at,
            test_seconds=self._seconds,
            stdout=self._logs["stdout"].close(),
            stderr=self._logs["stderr"].close(),
            outputs=(),
            outputs_notes=("outputs do not come back from an image without a shell",),
        )

"""Separates the output of a test's container into the test's own output, the agent's record and the outputs."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from orchestrator.engine.agent import protocol
from orchestrator.engine.agent.artifacts import ArchiveSink
from orchestrator.model.evidence import Launch

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model.evidence import AgentRecord, OutputLog
    from orchestrator.model.tests import Assignment

TICK_SECONDS = 0.2
"""The interval at which the deadline of a silent test and the stop flag are checked."""
LASTING_SECONDS = 0.05
"""The time after which a test in a reused slot is sampled: a sample costs 2 % of a shorter test."""
GRANT_STEP_SECONDS = 0.02
"""The least extension of a deadline; if a smaller one would be due, the deadline is reached."""
MOST_GRANTED = 9.0
"""The most that a deadline is extended for time without a CPU, in multiples of the test's time limit."""
PREPARE_SECONDS = 60.0
"""The time limit of the preparation of a forked test; the test's own limit applies if it is longer."""
RETURN_SECONDS = 60.0
"""The time limit for the record and the outputs to arrive after the test's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOutput:
    """The output, record and archive that a slot returned for one test."""

    record: AgentRecord | None
    begin_counters: str
    end_counters: str
    clean_counters: str
    """The counters after the slot was cleaned for its next test; empty if it did not have to be cleaned."""
    timed_out: bool
    interrupted: bool
    started_at: datetime
    test_seconds: float
    prepare_seconds: float
    """The duration of the preparation before the test; 0 if there was none."""
    stdout: OutputLog
    stderr: OutputLog
    outputs: tuple[str, ...]
    outputs_notes: tuple[str, ...]
    launch: tuple[Launch, str | None] = (Launch.PROCESS, None)
    """The way the test was started, and the reason if it was not forked although it could have been."""
    unexpected: str | None = None
    """Text on the streams that the agent did not write. If there is any, the rest cannot be trusted either."""


class OutputReader(Protocol):
    """Reads and separates the streams of one test, and keeps its clock."""

    @property
    def complete(self) -> bool:
        """True if all output of the test has arrived."""

    @property
    def test_ended(self) -> bool:
        """True if the test itself has ended; its outputs may still arrive."""

    @property
    def ended(self) -> float | None:
        """The monotonic time at which the test's end was noticed, None before it."""

    @property
    def prepares(self) -> bool:
        """True if processes are set up before the test that it is forked from."""

    @property
    def prepared(self) -> bool:
        """True if the preparation is complete and the agent waits for `go`; False if there is no preparation."""

    @property
    def before(self) -> str:
        """The text of the counters that the agent read before the test, once `prepared`."""

    @property
    def measured(self) -> bool:
        """True if the agent's counters after the test have arrived; always False without an agent."""

    @property
    def exit_code(self) -> int | None:
        """The test's exit code, once `measured`."""

    @property
    def counters(self) -> str:
        """The text of the counters that the agent read after the test, once `measured`."""

    @property
    def serving(self) -> str:
        """The pids, inside the container, of the processes that tests are forked from, once `measured`."""

    @property
    def started(self) -> float:
        """The monotonic time at which the test was released."""

    def restart(self) -> None:
        """Start the test's clock now, because the test before it in the slot has only now ended."""

    def past_deadline(self, now: float) -> bool:
        """Return whether the test runs longer than its limit."""

    def grant(self, waited_seconds: float) -> bool:
        """Extend the deadline by time in which the test had no CPU; return False if it is reached all the same."""

    def patience(self, now: float) -> float:
        """Return the seconds to wait for output before the deadline is checked again."""

    def overdue(self, now: float) -> bool:
        """Return whether the record and outputs take too long to arrive after the test's end."""

    def flush(self) -> None:
        """Write buffered output to the files; called when no output has come for a moment."""

    def feed(self, stream: str, data: bytes) -> bytes:
        """Process the next piece of a stream, empty at its end; return the bytes of the slot's next test."""

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotOutput:
        """Return the slot's output for the test. Call it once the output is `complete` or no more is awaited."""

    def close(self) -> None:
        """Close the files."""


class _TimedReader:
    """The clock and the two logs of one test."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        limits = assignment.profile.limits
        self.started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._ended: float | None = None
        self.deadline = self._started + limits.timeout_seconds
        self._logs = {
            name: protocol.LogSink(folder, limits.log_bytes, self._started, name) for name in ("stdout", "stderr")
        }
        self._open = {"stdout", "stderr"}
        self._limit_seconds = limits.timeout_seconds

    def restart(self) -> None:
        """Start the test's clock now, because the test before it in the slot has only now ended."""
        if self._ended is None:
            self.started_at, self._started = datetime.now(UTC), time.monotonic()
            self.deadline = self._started + self._limit_seconds
            for log in self._logs.values():
                log.restart(self._started)

    @property
    def started(self) -> float:
        """The monotonic time at which the test was released."""
        return self._started

    @property
    def test_ended(self) -> bool:
        """True if the test itself has ended; its outputs may still arrive."""
        return self._ended is not None

    @property
    def ended(self) -> float | None:
        """The monotonic time at which the test's end was noticed, None before it."""
        return self._ended

    def past_deadline(self, now: float) -> bool:
        """Return whether the test runs longer than its limit."""
        return self._ended is None and now >= self.deadline

    def grant(self, waited_seconds: float) -> bool:
        """Extend the deadline by time in which the test had no CPU; return False if it is reached all the same."""
        granted = min(waited_seconds, MOST_GRANTED * self._limit_seconds)
        self.deadline = max(self.deadline, self._started + self._limit_seconds + granted)
        return self.deadline - time.monotonic() > GRANT_STEP_SECONDS

    def patience(self, now: float) -> float:
        """Return the seconds to wait for output: until the deadline, at most `TICK_SECONDS`."""
        return min(TICK_SECONDS, max(0.002, self.deadline - now)) if now < self.deadline else TICK_SECONDS / 4

    def overdue(self, now: float) -> bool:
        """Return whether the record and outputs take too long to arrive after the test's end."""
        return self._ended is not None and now - self._ended > RETURN_SECONDS

    def flush(self) -> None:
        """Write buffered output to the files; called when no output has come for a moment."""
        for log in self._logs.values():
            log.flush()

    @property
    def _seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()


class AgentOutputReader(_TimedReader):
    """Reads the streams of a test that the agent runs."""

    def __init__(
        self, assignment: Assignment, folder: Path, *, first: bool = True, prepares: bool = False
    ) -> None:
        """Read the streams of `assignment` and write its logs to `folder`.

        With `first`, the agent reports limits and counters before the test. With `prepares`, it also sets up the
        processes that the test is forked from, in time that is not counted as the test's.
        """
        super().__init__(assignment, folder)
        self.prepares = prepares
        self._preparing = prepares
        self._prepare_seconds = 0.0
        if prepares:
            self._expect_preparation()
        self.nonce = secrets.token_hex(12)
        self._folder = folder
        self._cap = assignment.profile.limits.outputs_bytes
        self._begin, self._end = protocol.TextSink(), protocol.TextSink()
        self._left, self._reset = protocol.TextSink(), protocol.TextSink()
        self._listed = protocol.TextSink()
        self._archive = ArchiveSink(self._cap)
        self._parsed_end: tuple[int, str] | None = None
        begin = protocol.PREPARED_MARKS if prepares else protocol.BEGIN_MARKS if first else ()
        marks = (*begin, *protocol.OUT_MARKS)
        self._before = protocol.TextSink()
        before: tuple[protocol.Sink, ...] = (self._before, self._begin, self._before)[: len(begin)]
        sinks = (*before, self._logs["stdout"], self._end, self._left, self._listed, self._archive, self._reset)
        self._ended_at, self._rest_at = marks.index("end"), marks.index("rest")
        self._out = protocol.SectionParser(self.nonce, marks, sinks)
        self._err = protocol.SectionParser(self.nonce, protocol.ERR_MARKS, (self._logs["stderr"],))

    def _expect_preparation(self) -> None:
        self.deadline = self._started + max(PREPARE_SECONDS, self._limit_seconds)

    def restart(self) -> None:
        """Start the clock of the preparation now, or the test's clock if the preparation is complete."""
        if self._preparing and self.prepared:
            self._preparing = False
            self._prepare_seconds = time.monotonic() - self._started
        super().restart()
        if self._preparing:
            self._expect_preparation()

    @property
    def prepared(self) -> bool:
        """True if the preparation is complete; False if there is none."""
        return self.prepares and self._out.passed > protocol.PREPARED_MARKS.index("ready")

    @property
    def before(self) -> str:
        """The text of the counters that the agent read before the test, once `prepared`."""
        return self._begin.text

    @property
    def complete(self) -> bool:
        """True if both streams have reached the test's end, or have ended themselves."""
        out = self._out.complete or "stdout" not in self._open
        return out and (self._err.complete or "stderr" not in self._open)

    @property
    def measured(self) -> bool:
        """True if the agent's counters after the test have arrived."""
        return self._out.passed > self._rest_at

    @property
    def exit_code(self) -> int | None:
        """The test's exit code, once `measured`."""
        parsed = self._at_end() if self.measured else None
        return None if parsed is None else parsed[0]

    @property
    def counters(self) -> str:
        """The text of the counters that the agent read after the test, once `measured`."""
        parsed = self._at_end()
        return "" if parsed is None else parsed[1]

    @property
    def serving(self) -> str:
        """The pids, inside the container, of the processes that tests are forked from, once `measured`."""
        return protocol.parse_server_pids(self._end.text)

    def _at_end(self) -> tuple[int, str] | None:
        """Return the exit code and the counters of the end record, parsed at the first call; None if damaged."""
        if self._parsed_end is None:
            self._parsed_end = protocol.parse_end(self._end.text)
        return self._parsed_end

    def feed(self, stream: str, data: bytes) -> bytes:
        """Process the next piece of a stream, empty at its end; return the bytes of the slot's next test."""
        if not data:
            self._open.discard(stream)
            return b""
        if stream == "stderr":
            return self._err.feed(data)
        rest = self._out.feed(data)
        if self._ended is None and self._out.passed > self._ended_at:
            self._ended = time.monotonic()
        return rest

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotOutput:
        """Return the slot's output for the test."""
        self._out.flush()
        self._err.flush()
        ended = self._at_end() if self._out.complete and self._err.complete else None
        record = None if ended is None else protocol.parse_record(ended[0], self._left.text, self._reset.text)
        outputs: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
        if self._archive.size or self._archive.overflow or self._listed.text:
            outputs, notes = self._archive.extract(self._folder / "outputs", self._cap, self._listed.text)
        return SlotOutput(
            record=record,
            begin_counters=self._begin.text,
            end_counters=ended[1] if ended else "",
            clean_counters=protocol.parse_clean_counters(self._reset.text),
            launch=protocol.parse_launch(self._end.text),
            unexpected=None
            if record is None
            else protocol.unexpected(self._before.text, self._left.text, self._reset.text),
            timed_out=timed_out,
            interrupted=interrupted,
            started_at=self.started_at,
            test_seconds=self._seconds,
            prepare_seconds=self._prepare_seconds,
            stdout=self._logs["stdout"].close(),
            stderr=self._logs["stderr"].close(),
            outputs=outputs,
            outputs_notes=notes,
        )

    def close(self) -> None:
        """Close the files."""
        super().close()
        self._archive.close()


class PlainOutputReader(_TimedReader):
    """Reads the streams of a test that is the container's main process; the test ends when they end."""

    prepares = False
    prepared = False
    before = ""
    measured = False
    exit_code = None
    counters = ""
    serving = ""

    @property
    def complete(self) -> bool:
        """True if both streams have ended."""
        return not self._open

    def feed(self, stream: str, data: bytes) -> bytes:
        """Process the next piece of a stream, empty at its end."""
        if data:
            self._logs[stream].feed(data)
            return b""
        self._open.discard(stream)
        if not self._open:
            self._ended = time.monotonic()
        return b""

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotOutput:
        """Return the test's output; without an agent there is no record, and outputs are not returned."""
        return SlotOutput(
            record=None,
            begin_counters="",
            end_counters="",
            clean_counters="",
            timed_out=timed_out,
            interrupted=interrupted,
            started_at=self.started_at,
            test_seconds=self._seconds,
            prepare_seconds=0.0,
            stdout=self._logs["stdout"].close(),
            stderr=self._logs["stderr"].close(),
            outputs=(),
            outputs_notes=("outputs do not come back from an image without a shell",),
        )

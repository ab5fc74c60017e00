"""Reads what one test writes, and sorts it: its own output, the agent's record, the archive of its outputs."""

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
"""How often a silent test's deadline and the stop flag are looked at."""
LASTING_SECONDS = 0.05
"""A test in a reused slot is sampled once it has run for so long: a sample costs 2 % of a shorter one."""
GRANT_STEP_SECONDS = 0.02
"""A deadline that is put off by less is over."""
MOST_GRANTED = 9.0
"""Times its limit: what a test may be granted for the time in which others had the CPUs."""
PREPARE_SECONDS = 60.0
"""For setting up what a test is forked from, which is no time of the test's; its own limit, if that is longer."""
RETURN_SECONDS = 60.0
"""For the record and the outputs, after the test's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOutput:
    """What came out of a slot for one test."""

    record: AgentRecord | None
    begin_counters: str
    end_counters: str
    clean_counters: str
    """Once more where the slot had to be cleaned for its next test; else empty."""
    timed_out: bool
    interrupted: bool
    started_at: datetime
    test_seconds: float
    prepare_seconds: float
    """Before that, for what the test was forked from."""
    stdout: OutputLog
    stderr: OutputLog
    outputs: tuple[str, ...]
    outputs_notes: tuple[str, ...]
    launch: tuple[Launch, str | None] = (Launch.PROCESS, None)
    """How it was started, and why it was not forked although it could have been."""
    unexpected: str | None = None
    """What stands on the streams that the agent did not write; nothing that they say counts then."""


class OutputReader(Protocol):
    """What a slot's reader asks while a test runs."""

    @property
    def complete(self) -> bool:
        """Nothing more is to come."""

    @property
    def test_ended(self) -> bool:
        """The test itself is over."""

    @property
    def ended(self) -> float | None:
        """Monotonic time at which that was seen."""

    @property
    def prepares(self) -> bool:
        """Something is set up before the test."""

    @property
    def prepared(self) -> bool:
        """What the test is forked from stands, and the agent waits for word to let it begin; never, where nothing
        had to be set up.
        """

    @property
    def before(self) -> str:
        """What the agent read before the test, once it is `prepared`."""

    @property
    def measured(self) -> bool:
        """The agent's reading after the test is there; never without an agent."""

    @property
    def exit_code(self) -> int | None:
        """The test's, once it is `measured`."""

    @property
    def counters(self) -> str:
        """What the agent read after the test, once it is `measured`."""

    @property
    def serving(self) -> str:
        """Numbers, inside the container, of the processes that tests are forked from; once it is `measured`."""

    @property
    def started(self) -> float:
        """Monotonic time of the test's release."""

    def restart(self) -> None:
        """The test begins only now: the one before it in the slot has come to its end."""

    def past_deadline(self, now: float) -> bool:
        """The test runs longer than it may."""

    def grant(self, waited_seconds: float) -> bool:
        """It could not run for so long, which is not counted; False: its time is over all the same."""

    def patience(self, now: float) -> float:
        """How long to wait for output."""

    def overdue(self, now: float) -> bool:
        """What follows the test's end takes too long."""

    def flush(self) -> None:
        """Nothing has come for a moment: write what is held."""

    def feed(self, stream: str, data: bytes) -> bytes:
        """The next piece of a stream; empty: it ended. What belongs to the slot's next test is returned."""

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotOutput:
        """Everything, once no more is to come."""

    def close(self) -> None:
        """Release the files."""


class _TimedReader:
    """A test's clock and its two logs."""

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
        """The test begins only now: the one before it in the slot has come to its end."""
        if self._ended is None:
            self.started_at, self._started = datetime.now(UTC), time.monotonic()
            self.deadline = self._started + self._limit_seconds
            for log in self._logs.values():
                log.restart(self._started)

    @property
    def started(self) -> float:
        """Monotonic time of its release."""
        return self._started

    @property
    def test_ended(self) -> bool:
        """The test itself is over."""
        return self._ended is not None

    @property
    def ended(self) -> float | None:
        """Monotonic time at which that was seen."""
        return self._ended

    def past_deadline(self, now: float) -> bool:
        """The test runs longer than it may."""
        return self._ended is None and now >= self.deadline

    def grant(self, waited_seconds: float) -> bool:
        """It could not run for so long, which is not counted; False: its time is over all the same."""
        granted = min(waited_seconds, MOST_GRANTED * self._limit_seconds)
        self.deadline = max(self.deadline, self._started + self._limit_seconds + granted)
        return self.deadline - time.monotonic() > GRANT_STEP_SECONDS

    def patience(self, now: float) -> float:
        """How long to wait for output: to the deadline, at most a tick."""
        return min(TICK_SECONDS, max(0.002, self.deadline - now)) if now < self.deadline else TICK_SECONDS / 4

    def overdue(self, now: float) -> bool:
        """The test has ended, and what follows takes too long."""
        return self._ended is not None and now - self._ended > RETURN_SECONDS

    def flush(self) -> None:
        """Nothing has come for a moment: write what is held."""
        for log in self._logs.values():
            log.flush()

    @property
    def _seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    def close(self) -> None:
        """Release the files."""
        for log in self._logs.values():
            log.close()


class AgentOutputReader(_TimedReader):
    """The streams of one test that the agent runs, sorted into what they mean."""

    def __init__(
        self, assignment: Assignment, folder: Path, *, first: bool = True, prepares: bool = False
    ) -> None:
        """`first`: the agent says what it is held to before the test. `prepares`: also, and something is set up
        before it, whose time is not the test's.
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
        """The test begins only now, or what has to be set up for it; where that stands, the test."""
        if self._preparing and self.prepared:
            self._preparing = False
            self._prepare_seconds = time.monotonic() - self._started
        super().restart()
        if self._preparing:
            self._expect_preparation()

    @property
    def prepared(self) -> bool:
        """The agent waits for word to let the test begin, or has let it."""
        return self.prepares and self._out.passed > protocol.PREPARED_MARKS.index("ready")

    @property
    def before(self) -> str:
        """What the agent read before the test, once it is `prepared`."""
        return self._begin.text

    @property
    def complete(self) -> bool:
        """Both streams came to the test's end, or ended."""
        out = self._out.complete or "stdout" not in self._open
        return out and (self._err.complete or "stderr" not in self._open)

    @property
    def measured(self) -> bool:
        """The agent's reading after the test is there."""
        return self._out.passed > self._rest_at

    @property
    def exit_code(self) -> int | None:
        """Once it is `measured`."""
        parsed = self._at_end() if self.measured else None
        return None if parsed is None else parsed[0]

    @property
    def counters(self) -> str:
        """What the agent read after the test, once it is `measured`."""
        parsed = self._at_end()
        return "" if parsed is None else parsed[1]

    @property
    def serving(self) -> str:
        """Numbers of the processes that tests are forked from, once it is `measured`."""
        return protocol.parse_server_pids(self._end.text)

    def _at_end(self) -> tuple[int, str] | None:
        """The exit code and what the agent read then; asked for when that is there, and parsed once."""
        if self._parsed_end is None:
            self._parsed_end = protocol.parse_end(self._end.text)
        return self._parsed_end

    def feed(self, stream: str, data: bytes) -> bytes:
        """The next piece of a stream; empty: it ended. What belongs to the slot's next test is returned."""
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
        """Everything, once no more is to come."""
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
        """Release the files."""
        super().close()
        self._archive.close()


class PlainOutputReader(_TimedReader):
    """The streams of a test that is the container's own process: it ends when they end."""

    prepares = False
    prepared = False
    before = ""
    measured = False
    exit_code = None
    counters = ""
    serving = ""

    @property
    def complete(self) -> bool:
        """Both streams ended."""
        return not self._open

    def feed(self, stream: str, data: bytes) -> bytes:
        """The next piece of a stream; empty: it ended."""
        if data:
            self._logs[stream].feed(data)
            return b""
        self._open.discard(stream)
        if not self._open:
            self._ended = time.monotonic()
        return b""

    def result(self, *, timed_out: bool, interrupted: bool) -> SlotOutput:
        """Everything; there is no record, and no way for outputs to come back."""
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

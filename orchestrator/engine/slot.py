"""A slot: one container in which tests of one profile run one after another, each told apart by its nonce.

`open` brings the container up to where its agent waits for work, `run` gives it one test and reads until the
end record or until the streams end, `finish` asks the engine for its word, `close` removes what was made. How
many tests a slot takes is the caller's number.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.engine import hardening, records
from orchestrator.engine.ending import Ending
from orchestrator.engine.fifos import FifoChannel
from orchestrator.engine.outputs import ArchiveSink
from orchestrator.errors import EngineError, NotFoundError
from orchestrator.model import AgentRecord, EngineState
from orchestrator.stopping import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.engine.base import Channel, ContainerEngine, ContainerSpec, Inspection
    from orchestrator.model import Assignment, OutputLog
    from orchestrator.stopping import StopFlag

READY_SECONDS = 60.0
TICK_SECONDS = 0.2
"""How often a silent test's deadline and the stop flag are looked at."""
SILENCE_SECONDS = 15.0
"""After so long without output the engine is asked whether the container still runs."""
RETURN_SECONDS = 60.0
"""For the record and the outputs, after the test's end."""
END_SECONDS = 15.0
"""For the engine to notice that a container whose agent has ended is exited."""


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


class Slot:
    """Use as: open, run once or more, finish, and close whatever happened."""

    def __init__(self, engine: ContainerEngine, spec: ContainerSpec, *, streams_dir: Path | None) -> None:
        self._engine = engine
        self._spec = spec
        self._streams_dir = streams_dir
        self._channel: Channel | None = None
        self._silent_since = 0.0
        self.container_id: str | None = None
        self.create_seconds = 0.0
        self.start_seconds = 0.0

    def open(self) -> None:
        """Create, start, wait for the agent. Raises EngineError; `close` cleans up what was made by then."""
        began = time.monotonic()
        if self._streams_dir is not None:
            self._channel = FifoChannel(self._streams_dir)
        self.container_id = self._engine.create(self._spec)
        created = time.monotonic()
        self.create_seconds = created - began
        if self._channel is None:
            self._channel = self._engine.attach(self.container_id)
        self._engine.start(self.container_id)
        self._await_agent(self._channel)
        self.start_seconds = time.monotonic() - created

    def _await_agent(self, channel: Channel) -> None:
        seen = b""
        ended = 0
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and ended < 2:
            piece = channel.read(TICK_SECONDS)
            if piece is None:
                continue
            stream, data = piece
            ended += data == b""
            if stream == "stdout":
                seen += data
                if seen == records.READY:
                    return
                if not records.READY.startswith(seen):
                    break
        state = self.state()
        why = state.error or f"its state is {state.status}, exit code {state.exit_code}"
        raise EngineError(f"the container {self._spec.name} came up without its agent: {why}")

    def run(
        self,
        assignment: Assignment,
        *,
        keep: bool,
        folder: Path,
        stop: StopFlag,
        on_release: Callable[[], None] = lambda: None,
        before_kill: Callable[[], None] = lambda: None,
    ) -> SlotRun:
        """Run one test. `folder` receives stdout, stderr and outputs/; `on_release` is called at its start,
        `before_kill` before the engine ends the container.
        """
        assert self._channel is not None and self.container_id is not None  # noqa: S101, PT018 - open came first
        on_release()
        reading = _Reading(assignment, folder)
        grace = assignment.profile.grace_seconds
        ending = Ending(self._engine, self.container_id, grace, before_kill=before_kill)
        try:
            self._channel.write(hardening.order(assignment, reading.nonce, keep=keep))
            self._silent_since = time.monotonic()
            timed_out, interrupted = self._drain(self._channel, reading, ending, stop)
            return reading.result(timed_out=timed_out, interrupted=interrupted)
        finally:
            reading.close()

    def _drain(self, channel: Channel, reading: _Reading, ending: Ending, stop: StopFlag) -> tuple[bool, bool]:
        """Read until the end of the test or of the streams. (timed out, interrupted)."""
        timed_out = interrupted = False
        while not reading.complete:
            now = time.monotonic()
            level = stop.level if not reading.test_ended else StopLevel.RUN
            if level >= StopLevel.TERMINATE:
                interrupted = not timed_out
                ending.begin(at_once=level >= StopLevel.KILL)
            elif reading.past_deadline(now):
                timed_out = not interrupted
                ending.begin()
            elif reading.overdue(now):
                ending.begin(at_once=True)
            ending.step()
            piece = channel.read(reading.patience(now))
            if piece is not None:
                self._silent_since = now
                reading.feed(*piece)
            elif self._streams_dir is None and now - self._silent_since > SILENCE_SECONDS:
                self._silent_since = now
                if self._has_ended():
                    break
        return timed_out, interrupted

    def _has_ended(self) -> bool:
        """Asked where the end of the streams may get lost: attached ones. An engine that does not answer says
        nothing about the test, whose deadline goes on.
        """
        try:
            return self.state().status not in ("running", "paused")
        except EngineError:
            return False

    def finish(self) -> Inspection | None:
        """The engine's word once the container has ended; None: it does not know the container (any more)."""
        if self.container_id is None:
            return None
        try:
            self._engine.wait(self.container_id, END_SECONDS)
            return self._engine.inspect(self.container_id)
        except NotFoundError:
            return None

    def state(self) -> EngineState:
        """What the engine says now; status `gone` when it does not know the container."""
        try:
            return self._engine.inspect(self.container_id or self._spec.name).state
        except NotFoundError:
            return EngineState(status="gone")

    def close(self) -> None:
        """Remove the container, also one whose create call was given up and that came late."""
        try:
            made = self.container_id or self._late_container()
            if made is not None:
                self._engine.remove(made)
        finally:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _late_container(self) -> str | None:
        """Id of the container of our name, if its labels say that it is ours: the name may have been taken."""
        try:
            found = self._engine.inspect(self._spec.name)
        except NotFoundError:
            return None
        return found.id if self._spec.labels.items() <= found.labels.items() else None


class _Reading:
    """The streams of one test, sorted into what they mean."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        limits = assignment.profile.limits
        self.nonce = secrets.token_hex(16)
        self._folder = folder
        self._cap = limits.outputs_bytes
        self.started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._ended: float | None = None
        self.deadline = self._started + limits.timeout_seconds
        self._logs = {
            name: records.LogSink(folder / name, limits.log_bytes, self._started) for name in ("stdout", "stderr")
        }
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
        self._open = {"stdout", "stderr"}

    @property
    def complete(self) -> bool:
        """Both streams came to the test's end, or ended."""
        return all(self._streams[name].complete for name in self._open)

    @property
    def test_ended(self) -> bool:
        """The agent has reported the test's end."""
        return self._ended is not None

    def past_deadline(self, now: float) -> bool:
        """The test runs longer than it may."""
        return self._ended is None and now >= self.deadline

    def patience(self, now: float) -> float:
        """How long to wait for output: to the deadline, at most a tick."""
        return min(TICK_SECONDS, max(0.002, self.deadline - now)) if now < self.deadline else TICK_SECONDS / 4

    def overdue(self, now: float) -> bool:
        """The test has ended, and bringing back its outputs takes too long."""
        return self._ended is not None and now - self._ended > RETURN_SECONDS

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
            test_seconds=(self._ended or time.monotonic()) - self._started,
            stdout=self._logs["stdout"].close(),
            stderr=self._logs["stderr"].close(),
            outputs=outputs,
            outputs_notes=notes,
        )

    def close(self) -> None:
        """Release the files."""
        for log in self._logs.values():
            log.close()
        self._archive.close()

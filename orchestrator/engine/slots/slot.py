"""A slot: one container in which tests of one profile run one after another, each told apart by its nonce.

`open` brings the container up to where its agent waits for work, `run` gives it one test and reads until the
end record or until the streams end, `finish` asks the engine for its word, `close` removes what was made. How
many tests a slot takes is the caller's number.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.agent import protocol
from orchestrator.engine.agent.output_reader import (
    LASTING_SECONDS,
    TICK_SECONDS,
    AgentOutputReader,
    PlainOutputReader,
)
from orchestrator.engine.isolation import hardening
from orchestrator.engine.slots import preload
from orchestrator.engine.slots.fifos import FifoChannel
from orchestrator.engine.slots.termination import Termination
from orchestrator.errors import ConflictError, EngineError, NotFoundError
from orchestrator.model.evidence import EngineState
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.engine.agent.output_reader import OutputReader, SlotOutput
    from orchestrator.engine.base import Channel, ContainerEngine, ContainerSpec, Inspection
    from orchestrator.model.tests import Assignment
    from orchestrator.stop_flag import StopFlag

READY_SECONDS = 60.0
READY_SILENCE_SECONDS = 2.0
"""An agent that has said nothing for so long may have ended: the engine is asked."""
SILENCE_SECONDS = 15.0
"""After so long without output the engine is asked whether the container still runs."""
MOST_LATE_PIECES = 64
"""Of output that is read before a test is found to overrun: more than the streams can hold."""
END_SECONDS = 15.0
"""For the engine to notice that a container whose agent has ended is exited."""


@dataclass(slots=True)
class Watch:
    """Who is told how a test gets on, in the reader's thread."""

    measured: Callable[[], None] = lambda: None
    """The agent has read the counters after the test, nothing of which lives any more; the agent is still busy."""
    prepared: Callable[[], None] = lambda: None
    """What the test is forked from stands; the test begins after this."""
    begun: Callable[[], None] = lambda: None
    """It runs, and there is time for other things."""
    lasting: Callable[[], None] | None = None
    """It has run for `LASTING_SECONDS`."""
    before_kill: Callable[[], None] = lambda: None
    """The engine is about to end the container."""
    waited: Callable[[], float] = lambda: 0.0
    """Seconds in which it could not run so far because others had the CPUs."""
    signal: Callable[[str], bool] = lambda _: False
    """Sends a signal of that name without the engine; see `Termination`."""


class SlotContainer:
    """Use as: open, release and read once or more, finish, and close whatever happened."""

    has_agent = True

    def __init__(self, engine: ContainerEngine, spec: ContainerSpec, *, streams_dir: Path | None) -> None:
        self._engine = engine
        self.spec = spec
        self._streams_dir = streams_dir
        self._channel: Channel | None = None
        self._silent_since = 0.0
        self._next_output = {"stdout": b"", "stderr": b""}
        """Of the next test: it may have begun when the end of this one is read."""
        self._released = self._read = 0
        """Tests that were let in, and those that are or have been read."""
        self._environment = ""
        """What the agent has."""
        self._last: Assignment | None = None
        self._last_environment = ""
        self._server: str | None = None
        self._template: str | None = None
        self.container_id: str | None = None
        self.create_seconds = 0.0
        self.start_seconds = 0.0
        self.leaked: tuple[str, ...] = ()
        """What `close` could not remove."""

    def open(self) -> None:
        """Create, start, wait for the agent. Raises EngineError; `close` cleans up what was made by then."""
        began = time.monotonic()
        if self._streams_dir is not None:
            self._channel = FifoChannel(self._streams_dir)
        self.container_id = self._create()
        created = time.monotonic()
        self.create_seconds = created - began
        if self._channel is None:
            self._channel = self._engine.attach(self.container_id)
        self._engine.start(self.container_id)
        self._await_agent(self._channel)
        self.start_seconds = time.monotonic() - created

    def _create(self) -> str:
        """A container of our name may be there: made by a call that was given up when the engine went away."""
        try:
            return self._engine.create(self.spec)
        except ConflictError:
            late = self._late_container()
            if late is None:
                raise
            self._engine.remove(late)
            return self._engine.create(self.spec)

    def _await_agent(self, channel: Channel) -> None:
        seen = b""
        ended = 0
        deadline = time.monotonic() + READY_SECONDS
        ask_at = time.monotonic() + READY_SILENCE_SECONDS
        while time.monotonic() < deadline and ended < 2:
            piece = channel.read(TICK_SECONDS)
            if piece is None:
                if time.monotonic() > ask_at:
                    if self._has_ended():  # before it has opened the streams: they have no end then
                        break
                    ask_at = time.monotonic() + READY_SILENCE_SECONDS
                continue
            stream, data = piece
            ended += data == b""
            if stream == "stdout":
                seen += data
                if seen == protocol.READY:
                    channel.unlink()
                    return
                if not protocol.READY.startswith(seen):
                    break
        state = self.state()
        why = state.error or f"its state is {state.status}, exit code {state.exit_code}"
        raise EngineError(f"the container {self.spec.name} came up without its agent: {why}")

    def start(self, assignment: Assignment, *, folder: Path, keep: bool, first: bool) -> OutputReader:
        """Let a test begin; `read` follows. `folder` receives what it writes. `keep`: another may come after it.
        `first`: the agent reads all counters before it.
        """
        reading, line = self.stage(assignment, folder=folder, keep=keep, first=first)
        try:
            if not first:
                self._expect_silence()
            self.release(line)
        except BaseException:
            reading.close()
            raise
        return reading

    def _expect_silence(self) -> None:
        """EngineError: something is on the streams although no test runs, or they have ended."""
        assert self._channel is not None  # noqa: S101 - open came first
        piece = self._channel.read(0.0)
        if piece is not None:
            raise EngineError(_between(*piece))

    def release(self, line: bytes) -> None:
        """Let a test begin that was staged, or have it begin as soon as the one before it has ended and left
        nothing: then the agent goes on by itself.
        """
        assert self._channel is not None  # noqa: S101 - open came first
        self._released += 1
        self._channel.write(line)

    def stage(
        self, assignment: Assignment, *, folder: Path, keep: bool, first: bool
    ) -> tuple[AgentOutputReader, bytes]:
        """As `start`, but nothing begins before `release` is given the bytes."""
        assert self._channel is not None  # noqa: S101 - open came first
        prelude, prepares = self._setup_script(assignment)
        reading = AgentOutputReader(assignment, folder, first=first, prepares=prepares)
        script = prelude + hardening.order(assignment, first=first, keep=keep)
        environment = self._environment_of(assignment)
        if environment != self._environment:
            self._environment, script = environment, environment + script
        try:
            return reading, self._channel.stage(reading.nonce, script)
        except BaseException:
            reading.close()
            raise

    def _environment_of(self, assignment: Assignment) -> str:
        """Made anew only for a test that differs in what it depends on."""
        command, known = assignment.test.command, self._last
        if known is None or known.profile is not assignment.profile or known.test.command.env != command.env:
            self._last_environment = hardening.environment(assignment)
        self._last = assignment
        return self._last_environment

    def prepares(self, assignment: Assignment) -> bool:
        """Whether something would have to be set up before this test."""
        plan = None if self._streams_dir is None else preload.plan(assignment)
        return plan is not None and preload.must_prepare(plan, self._server, self._template)

    def _setup_script(self, assignment: Assignment) -> tuple[str, bool]:
        """What lets the test be forked from a runner that this slot has started, or starts now; whether something
        has to be set up for that.
        """
        # one that the engine alone sees into takes one test only: nothing to share a runner with
        plan = None if self._streams_dir is None else preload.plan(assignment)
        if plan is None:
            return "", False
        running, template = self._server, self._template
        self._server, self._template = plan.key, plan.template
        return preload.setup_script(plan, running, template), preload.must_prepare(plan, running, template)

    def go(self) -> None:
        """The agent has cleaned the container and may take the next test."""
        assert self._channel is not None  # noqa: S101 - open came first
        self._channel.write(b"go\n")

    @property
    def resized(self) -> bool:
        """A test has changed the sizes of the streams' buffers."""
        return isinstance(self._channel, FifoChannel) and self._channel.resized

    def dismiss(self) -> None:
        """The container has been looked at: an agent that waits for that may end."""
        if self._streams_dir is not None:
            self.go()

    def read(self, reading: OutputReader, assignment: Assignment, *, stop: StopFlag, watch: Watch) -> SlotOutput:
        """Read until the test's end record is whole, or until the streams end."""
        assert self._channel is not None and self.container_id is not None  # noqa: S101, PT018 - open came first
        ending = Termination(
            self._engine,
            self.container_id,
            assignment.profile.grace_seconds,
            before_kill=watch.before_kill,
            can_exec=self.has_agent,
            signal=watch.signal,
        )
        try:
            return self._read_to_end(self._channel, reading, ending, stop, watch)
        finally:
            reading.close()

    def _read_to_end(
        self, channel: Channel, reading: OutputReader, ending: Termination, stop: StopFlag, watch: Watch
    ) -> SlotOutput:
        self._read += 1
        self._silent_since = time.monotonic()
        spill, self._next_output = self._next_output, dict.fromkeys(self._next_output, b"")
        for stream, data in spill.items():
            if data:
                self._feed(reading, stream, data, watch)
        timed_out, interrupted = self._drain(channel, reading, ending, stop, watch)
        return reading.result(timed_out=timed_out, interrupted=interrupted)

    def _drain(
        self, channel: Channel, reading: OutputReader, ending: Termination, stop: StopFlag, watch: Watch
    ) -> tuple[bool, bool]:
        """Read until the end of the test or of the streams. (timed out, interrupted)."""
        timed_out = interrupted = False
        watch.begun()
        lasting_at = reading.started + LASTING_SECONDS if watch.lasting is not None else math.inf
        while not reading.complete:
            now = time.monotonic()
            if now >= lasting_at and watch.lasting is not None:
                lasting_at = math.inf
                if not reading.test_ended:
                    watch.lasting()
            level = stop.level if not reading.test_ended else StopLevel.RUN
            if level >= StopLevel.TERMINATE:
                interrupted = not timed_out
                ending.begin(at_once=level >= StopLevel.KILL)
            elif reading.past_deadline(now) and (timed_out or self._has_overrun(channel, reading, watch)):
                timed_out = not interrupted
                ending.begin()
            elif reading.overdue(now):
                ending.begin(at_once=True)
            ending.step()
            piece = channel.read(min(reading.patience(now), max(0.0, lasting_at - now)))
            if piece is not None:
                self._silent_since = now
                self._feed(reading, *piece, watch)
                continue
            reading.flush()
            if self._streams_dir is None and now - self._silent_since > SILENCE_SECONDS:
                self._silent_since = now
                if self._has_ended():
                    break
        return timed_out, interrupted

    def _has_overrun(self, channel: Channel, reading: OutputReader, watch: Watch) -> bool:
        """Its time is over. What stands in the streams is read first: we too may have waited for a CPU, and its
        end may have been there since before its limit.
        """
        for _ in range(MOST_LATE_PIECES):
            piece = channel.read(0.0)
            if piece is None:
                break
            self._feed(reading, *piece, watch)
            if reading.test_ended:
                return False
        return not reading.grant(watch.waited())

    def _feed(self, reading: OutputReader, stream: str, data: bytes, watch: Watch) -> None:
        known, prepared = reading.measured, reading.prepared
        rest = reading.feed(stream, data)
        if rest and self._released <= self._read:
            raise EngineError(_between(stream, rest))
        self._next_output[stream] += rest
        if reading.prepared and not prepared:
            watch.prepared()
            reading.restart()  # not when its first mark is read: on a busy machine its end may be there by then
            self.go()
        if reading.measured and not known:
            watch.measured()

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
            return self._engine.inspect(self.container_id or self.spec.name).state
        except NotFoundError:
            return EngineState(status="gone")

    def close(self) -> None:
        """Remove the container, also one whose create call was given up and that came late. May be called
        again.
        """
        self.leaked = ()
        try:
            made = self.container_id or self._late_container()
            if made is not None:
                self._engine.remove(made)
        except EngineError:
            self.leaked = (f"container {self.spec.name}",) if self.container_id is not None else ()
            raise
        finally:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _late_container(self) -> str | None:
        """Id of the container of our name, if its labels say that it is ours: the name may have been taken."""
        try:
            found = self._engine.inspect(self.spec.name)
        except NotFoundError:
            return None
        return found.id if self.spec.labels.items() <= found.labels.items() else None


def _between(stream: str, data: bytes) -> str:
    text = f"wrote {data[:200].decode(errors='replace')!r}" if data else "ended"
    return f"the container's {stream} {text} between two tests: what came before counts no longer"


class PlainContainer(SlotContainer):
    """For an image without a shell: the test is the container's own process. One test, one witness; what it
    writes comes back, files do not.
    """

    has_agent = False

    def __init__(self, engine: ContainerEngine, spec: ContainerSpec) -> None:
        super().__init__(engine, spec, streams_dir=None)

    def open(self) -> None:
        """Create and attach; the test starts with its container."""
        began = time.monotonic()
        self.container_id = self._create()
        self._channel = self._engine.attach(self.container_id)
        self.create_seconds = time.monotonic() - began

    def start(self, assignment: Assignment, *, folder: Path, keep: bool, first: bool) -> OutputReader:  # noqa: ARG002 - the slot ends with its test
        """Start the container."""
        assert self.container_id is not None  # noqa: S101 - open came first
        reading = PlainOutputReader(assignment, folder)
        try:
            self._engine.start(self.container_id)
        except BaseException:
            reading.close()
            raise
        return reading

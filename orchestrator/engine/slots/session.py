"""Sends orders to the agent of an open container, and yields the events of each test.

A session exists only for a container that is open (`SlotContainer.open` returns it). The caller decides how many
tests it takes.
"""

from __future__ import annotations

import math
import time
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.engine.agent.output_reader import LASTING_SECONDS, AgentOutputReader, PlainOutputReader
from orchestrator.engine.isolation import hardening
from orchestrator.engine.slots import preload
from orchestrator.engine.slots.fifos import FifoChannel
from orchestrator.engine.slots.termination import Termination
from orchestrator.errors import EngineError, NotFoundError
from orchestrator.model.evidence import EngineState
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from orchestrator.engine.agent.output_reader import OutputReader, SlotOutput
    from orchestrator.engine.base import Channel, ContainerEngine
    from orchestrator.model.tests import Assignment
    from orchestrator.stop_flag import StopFlag

SILENCE_SECONDS = 15.0
"""After this time without output, the engine is asked whether the container still runs (attached streams only)."""
MAX_LATE_PIECES = 64
"""The most pieces of output read before a test counts as overrun: more than the streams can hold."""


class SlotEvent(Enum):
    """The events of a test while its output is read."""

    PREPARED = "prepared"
    """The process that the test is forked from is set up. The test starts once the event has been handled."""
    STARTED = "started"
    """The test runs, and needs nothing from orch at this moment."""
    LONG_RUNNING = "long-running"
    """The test has run for `LASTING_SECONDS`."""
    KILLING = "killing"
    """The engine kills the container once the event has been handled, so its cgroup can be read only now."""
    MEASURED = "measured"
    """The test's processes have ended, and the agent has read the counters, but has not finished its work."""


class Session:
    """The streams of one open container, read until the end of each test."""

    has_agent = True

    def __init__(self, engine: ContainerEngine, container_id: str, channel: Channel) -> None:
        """Use the container's `channel`, which is closed with the container."""
        self._engine = engine
        self.container_id = container_id
        self._channel = channel
        self._attached = not isinstance(channel, FifoChannel)
        self._silent_since = 0.0
        self._next_output = {"stdout": b"", "stderr": b""}
        """The first output of the next test, which may have begun before the current one's end is read."""
        self._released_count = self._read_count = 0
        """The number of tests that were released, and of those whose reading has begun."""

    def start(self, assignment: Assignment, *, folder: Path, keep: bool, first: bool) -> OutputReader:
        """Start a test now and return the reader for `events`. Raises EngineError.

        `folder` receives the test's output. With `keep`, the container may take another test afterwards. With
        `first`, the agent reads all counters before the test.
        """
        raise NotImplementedError

    def needs_preparation(self, assignment: Assignment) -> bool:  # noqa: ARG002 - for the agent's session
        """Return whether processes or imports have to be set up before this test."""
        return False

    def proceed(self) -> None:
        """Let a waiting agent continue, once its container has been examined."""

    @property
    def resized(self) -> bool:
        """True if a test has changed the buffer sizes of the streams."""
        return False

    def events(
        self,
        reader: OutputReader,
        assignment: Assignment,
        *,
        stop: StopFlag,
        waited_seconds: Callable[[], float] = lambda: 0.0,
        signal: Callable[[str], bool] = lambda _: False,
    ) -> Generator[SlotEvent | SlotOutput]:
        """Read a started test to its end; yield its events, and its output as the last item.

        End the test when its time is over or the run is stopped by `stop`. `waited_seconds` returns the seconds in
        which the test could not run so far because other processes used the CPUs. `signal` sends a signal without
        the engine (see Termination). Raises EngineError. Close the generator if it is not exhausted.
        """
        termination = Termination(
            self._engine,
            self.container_id,
            assignment.profile.grace_seconds,
            can_exec=self.has_agent,
            signal=signal,
        )
        try:
            self._read_count += 1
            self._silent_since = time.monotonic()
            early, self._next_output = self._next_output, dict.fromkeys(self._next_output, b"")
            for stream, data in early.items():
                if data:
                    yield from self._feed(reader, stream, data)
            yield from self._drain(reader, termination, stop, waited_seconds)
            yield reader.result(timed_out=termination.timed_out, interrupted=termination.interrupted)
        finally:
            reader.close()

    def _drain(
        self,
        reader: OutputReader,
        termination: Termination,
        stop: StopFlag,
        waited_seconds: Callable[[], float],
    ) -> Iterator[SlotEvent]:
        """Read until the end of the test or of the streams, and end a test that must stop."""
        yield SlotEvent.STARTED
        long_running_at = reader.started + LASTING_SECONDS
        while not reader.complete:
            now = time.monotonic()
            if now >= long_running_at:
                long_running_at = math.inf
                if not reader.test_ended:
                    yield SlotEvent.LONG_RUNNING
            level = stop.level if not reader.test_ended else StopLevel.RUN
            if level >= StopLevel.TERMINATE:
                termination.interrupted = not termination.timed_out
                termination.begin(at_once=level >= StopLevel.KILL)
            elif reader.past_deadline(now):
                yield from self._time_out(reader, termination, waited_seconds)
            elif reader.overdue(now):
                termination.begin(at_once=True)
            if termination.begun:
                yield from self._step(termination)
            piece = self._channel.read(min(reader.patience(now), max(0.0, long_running_at - now)))
            if piece is not None:
                self._silent_since = now
                yield from self._feed(reader, *piece)
                continue
            reader.flush()
            if self._has_ended_silently(now):
                break

    @staticmethod
    def _step(termination: Termination) -> Iterator[SlotEvent]:
        if termination.kills_now:
            yield SlotEvent.KILLING
        termination.step()

    def _has_ended_silently(self, now: float) -> bool:
        """Return whether the container has ended although its attached streams have not."""
        if not self._attached or now - self._silent_since <= SILENCE_SECONDS:
            return False
        self._silent_since = now
        return has_ended(self._engine, self.container_id)

    def _time_out(
        self, reader: OutputReader, termination: Termination, waited_seconds: Callable[[], float]
    ) -> Iterator[SlotEvent]:
        """End a test whose time is over, unless it has ended or is granted more time.

        The output that has arrived is read first: orch may have waited for a CPU too, so that the test may have
        ended within its limit.
        """
        if not termination.timed_out:
            for _ in range(MAX_LATE_PIECES):
                piece = self._channel.read(0.0)
                if piece is None:
                    break
                yield from self._feed(reader, *piece)
                if reader.test_ended:
                    return
            if reader.grant(waited_seconds()):
                return
        termination.timed_out = not termination.interrupted
        termination.begin()

    def _feed(self, reader: OutputReader, stream: str, data: bytes) -> Iterator[SlotEvent]:
        """Give a piece of output to the reader, and yield the events that it contains."""
        measured, prepared = reader.measured, reader.prepared
        rest = reader.feed(stream, data)
        if rest and self._released_count <= self._read_count:
            raise EngineError(_unexpected_output(stream, rest))
        self._next_output[stream] += rest
        if reader.prepared and not prepared:
            yield SlotEvent.PREPARED
            # now and not at the test's first mark: on a busy machine, the test may have ended when that is read
            reader.restart()
            self.proceed()
        if reader.measured and not measured:
            yield SlotEvent.MEASURED


class AgentSession(Session):
    """The session of a container with an agent, which runs one test after another, each with its own nonce."""

    def __init__(self, engine: ContainerEngine, container_id: str, channel: Channel) -> None:
        """Use the `channel` of a container whose agent is ready."""
        super().__init__(engine, container_id, channel)
        self._environment = ""
        """The shell text of the environment that the agent has now."""
        self._last: Assignment | None = None
        self._last_environment = ""
        self._server: str | None = None
        self._template: str | None = None

    def start(self, assignment: Assignment, *, folder: Path, keep: bool, first: bool) -> OutputReader:
        """Start a test now and return the reader for `events`, as `Session.start` describes."""
        reader, line = self.stage(assignment, folder=folder, keep=keep, first=first)
        try:
            if not first:
                self._expect_silence()
            self.release(line)
        except BaseException:
            reader.close()
            raise
        return reader

    def _expect_silence(self) -> None:
        """Raise EngineError if the streams have ended, or hold output although no test runs."""
        piece = self._channel.read(0.0)
        if piece is not None:
            raise EngineError(_unexpected_output(*piece))

    def stage(
        self, assignment: Assignment, *, folder: Path, keep: bool, first: bool
    ) -> tuple[AgentOutputReader, bytes]:
        """Write the order for a test, and return its reader and the line that starts it (see `release`).

        The parameters are those of `Session.start`. The test before it may still run. Raises EngineError.
        """
        setup, prepares = self._setup_script(assignment)
        reader = AgentOutputReader(assignment, folder, first=first, prepares=prepares)
        script = setup + hardening.order(assignment, first=first, keep=keep)
        environment = self._environment_of(assignment)
        if environment != self._environment:
            self._environment, script = environment, environment + script
        try:
            return reader, self._channel.stage(reader.nonce, script)
        except BaseException:
            reader.close()
            raise

    def release(self, line: bytes) -> None:
        """Send the line of a staged test to the agent.

        The agent starts the test at once, or as soon as the one before has ended and left nothing behind.
        """
        self._released_count += 1
        self._channel.write(line)

    def _environment_of(self, assignment: Assignment) -> str:
        """Return the shell text of a test's environment; cached while profile and variables stay the same."""
        command, known = assignment.test.command, self._last
        if known is None or known.profile is not assignment.profile or known.test.command.env != command.env:
            self._last_environment = hardening.environment(assignment)
        self._last = assignment
        return self._last_environment

    def needs_preparation(self, assignment: Assignment) -> bool:
        """Return whether a server or template has to be set up before this test can be forked from it."""
        plan = None if self._attached else preload.plan(assignment)
        return plan is not None and preload.must_prepare(plan, self._server, self._template)

    def _setup_script(self, assignment: Assignment) -> tuple[str, bool]:
        """Return the agent's lines that let the test be forked, and whether they set up a server or template."""
        # over attached streams a container takes one test only, so there is no other to share a server with
        plan = None if self._attached else preload.plan(assignment)
        if plan is None:
            return "", False
        running, template = self._server, self._template
        self._server, self._template = plan.key, plan.template
        return preload.setup_script(plan, running, template), preload.must_prepare(plan, running, template)

    def proceed(self) -> None:
        """Let a waiting agent continue, once its container has been examined; an agent waits only over FIFOs."""
        if not self._attached:
            self._channel.write(b"go\n")

    @property
    def resized(self) -> bool:
        """True if a test has changed the buffer sizes of the streams."""
        return isinstance(self._channel, FifoChannel) and self._channel.resized


class PlainSession(Session):
    """The session of a container whose main process is the test."""

    has_agent = False

    def start(self, assignment: Assignment, *, folder: Path, keep: bool, first: bool) -> OutputReader:  # noqa: ARG002 - it takes one test
        """Start the container and return the reader of its streams. Raises EngineError."""
        reader = PlainOutputReader(assignment, folder)
        try:
            self._engine.start(self.container_id)
        except BaseException:
            reader.close()
            raise
        return reader


def state_of(engine: ContainerEngine, container: str) -> EngineState:
    """Return the engine's view of a container by ID or name; the status is `gone` if it does not exist."""
    try:
        return engine.inspect(container).state
    except NotFoundError:
        return EngineState(status="gone")


def has_ended(engine: ContainerEngine, container: str) -> bool:
    """Return whether the engine says that the container has ended; False if the engine does not answer."""
    try:
        return state_of(engine, container).status not in ("running", "paused")
    except EngineError:
        return False


def _unexpected_output(stream: str, data: bytes) -> str:
    text = f"wrote {data[:200].decode(errors='replace')!r}" if data else "ended"
    return f"the container's {stream} {text} between two tests, so its earlier output cannot be trusted"

"""Creates, starts, inspects and removes the container of a slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.engine.agent import protocol
from orchestrator.engine.agent.output_reader import TICK_SECONDS
from orchestrator.engine.slots.fifos import FifoChannel
from orchestrator.engine.slots.session import AgentSession, PlainSession, has_ended, state_of
from orchestrator.errors import ConflictError, EngineError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engine.base import Channel, ContainerEngine, ContainerSpec, Inspection
    from orchestrator.engine.slots.session import Session
    from orchestrator.model.evidence import EngineState

READY_SECONDS = 60.0
"""The longest wait for the agent's ready message."""
READY_SILENCE_SECONDS = 2.0
"""After this time without output from a starting container, the engine is asked whether it has ended."""
END_SECONDS = 15.0
"""The longest wait for the engine to report that a container whose agent has ended is exited."""


class SlotContainer:
    """A container in which an agent runs tests. Call `open` once, then always `close`, also if `open` failed."""

    def __init__(self, engine: ContainerEngine, spec: ContainerSpec, *, streams_dir: Path | None) -> None:
        """Describe the container; `open` creates it.

        `streams_dir` is the folder for the FIFOs of its streams; with None, the engine's attach call is used.
        """
        self._engine = engine
        self.spec = spec
        self._streams_dir = streams_dir
        self._channel: Channel | None = None
        self.container_id: str | None = None
        self.create_seconds = 0.0
        self.start_seconds = 0.0
        self.leaked: tuple[str, ...] = ()
        """The names of objects that the last `close` could not remove."""

    def open(self) -> Session:
        """Create and start the container, and wait until its agent is ready.

        Raises EngineError; `close` removes what was created before the failure.
        """
        began = time.monotonic()
        fifos = None if self._streams_dir is None else FifoChannel(self._streams_dir)
        self._channel = fifos
        container_id = self.container_id = self._create()
        created = time.monotonic()
        self.create_seconds = created - began
        channel = self._channel = fifos or self._engine.attach(container_id)
        self._engine.start(container_id)
        self._await_agent(channel)
        self.start_seconds = time.monotonic() - created
        return AgentSession(self._engine, container_id, channel)

    def _create(self) -> str:
        """Create the container and return its ID.

        A container with the same name may exist, if the engine went away during an earlier create call and
        completed it later. That container is removed first, if its labels are the same.
        """
        try:
            return self._engine.create(self.spec)
        except ConflictError:
            late = self._late_container()
            if late is None:
                raise
            self._engine.remove(late)
            return self._engine.create(self.spec)

    def _await_agent(self, channel: Channel) -> None:
        """Wait for the agent's ready message. Raises EngineError if other output comes, or none in time."""
        seen = b""
        ended = 0
        deadline = time.monotonic() + READY_SECONDS
        ask_at = time.monotonic() + READY_SILENCE_SECONDS
        while time.monotonic() < deadline and ended < 2:
            piece = channel.read(TICK_SECONDS)
            if piece is None:
                if time.monotonic() > ask_at:
                    # a container that ended before it opened the FIFOs leaves them without an end of file
                    if has_ended(self._engine, self.container_id or self.spec.name):
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

    def await_exit(self) -> Inspection | None:
        """Wait until the container has ended and return its inspection.

        Return None if the engine does not know the container. Raises EngineError.
        """
        if self.container_id is None:
            return None
        try:
            self._engine.wait(self.container_id, END_SECONDS)
            return self._engine.inspect(self.container_id)
        except NotFoundError:
            return None

    def state(self) -> EngineState:
        """Return the engine's view of the container; its status is `gone` if the engine does not know it."""
        return state_of(self._engine, self.container_id or self.spec.name)

    def close(self) -> None:
        """Remove the container and close its streams; a container that a failed create call left is removed too.

        May be called more than once. Raises EngineError.
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
        """Return the ID of an existing container of this name, or None if there is none with these labels."""
        try:
            found = self._engine.inspect(self.spec.name)
        except NotFoundError:
            return None
        return found.id if self.spec.labels.items() <= found.labels.items() else None


class PlainContainer(SlotContainer):
    """The container of an image without a shell: the test is its main process, so it takes one test.

    Without an agent, the exit code is known from the engine only, and output files are not returned.
    """

    def __init__(self, engine: ContainerEngine, spec: ContainerSpec) -> None:
        """Describe the container; `open` creates it."""
        super().__init__(engine, spec, streams_dir=None)

    def open(self) -> PlainSession:
        """Create the container and attach to it, without starting it. Raises EngineError.

        The session starts the container, and so the test.
        """
        began = time.monotonic()
        container_id = self.container_id = self._create()
        channel = self._channel = self._engine.attach(container_id)
        self.create_seconds = time.monotonic() - began
        return PlainSession(self._engine, container_id, channel)

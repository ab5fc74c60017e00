"""A container of the in-memory engine: its state, its streams, and the thread that simulates its program."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from queue import Empty, Queue
from typing import TYPE_CHECKING

from orchestrator.engine.base import EffectiveSettings, FoundObject, Inspection
from orchestrator.engine.docker.inspected_settings import text_digest
from orchestrator.errors import EngineError
from orchestrator.model.evidence import EngineState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.engine.base import ContainerSpec

    Behaviour = Callable[["FakeContainer"], int]
    """Simulates a container's main process and returns its exit code."""


class Gone(Exception):  # noqa: N818 - not an error: it ends the thread of a behaviour whose container has ended
    """Raised in a behaviour whose container was killed or removed; behaviours must not catch it."""


def exit_at_once(_: FakeContainer) -> int:
    """Simulate a program that exits at once with 0."""
    return 0


class FakeChannel:
    """A container's streams, with both ends. Output can be read after the container's end, as with a real one."""

    def __init__(self) -> None:
        self._out: Queue[tuple[str, bytes]] = Queue()
        self._in: Queue[bytes] = Queue()
        self._input = b""
        self._closed = threading.Event()

    # ------------------------------------------------------------ our end

    def write(self, data: bytes) -> None:
        """Write to the container's standard input. Raises EngineError if the container has ended."""
        if self._closed.is_set():
            raise EngineError("writing to the container: it has ended")
        self._in.put(data)

    def stage(self, nonce: str, script: str) -> bytes:
        """Return the bytes to write for the agent to run `script`."""
        return f"{nonce}\n{script}{nonce}\n".encode(errors="surrogateescape")

    def unlink(self) -> None:
        """Do nothing: there are no files."""

    def read(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        """Return the next piece of output; see `base.Channel.read`."""
        with contextlib.suppress(Empty):
            return self._out.get(timeout=max(0.0, timeout_seconds))
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    # ------------------------------------------------------------ the container's end

    def send(self, stream: str, data: bytes) -> None:
        """Write to `stdout` or `stderr`. Raises Gone if the container has ended."""
        if self._closed.is_set():
            raise Gone
        if data:
            self._out.put((stream, data))

    def read_line(self) -> bytes | None:
        """Return a line of the input without its newline. Raises Gone if the container has ended."""
        while b"\n" not in self._input:
            with contextlib.suppress(Empty):
                self._input += self._in.get(timeout=0.01)
            if self._closed.is_set():
                raise Gone
        line, _, self._input = self._input.partition(b"\n")
        return line

    def end(self) -> None:
        """End both output streams."""
        if not self._closed.is_set():
            self._closed.set()
            self._out.put(("stdout", b""))
            self._out.put(("stderr", b""))


class FakeContainer:
    """The state of one container; its behaviour may use `streams`, `signals` and `spec`."""

    def __init__(
        self, container_id: str, spec: ContainerSpec, image_labels: Mapping[str, str], behaviour: Behaviour
    ) -> None:
        self.id = container_id
        self.spec = spec
        self.labels = {**image_labels, **spec.labels}  # as in a real engine, the image's labels are inherited
        self.streams = FakeChannel()
        self.signals: Queue[str] = Queue()
        """The names of the signals sent to the container's processes, except for the engine's KILL."""
        self.ended = threading.Event()
        self.created_at = datetime.now(UTC)
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self._status = "created"
        self._exit_code = 0
        self._started_at: datetime | None = None
        self._finished_at: datetime | None = None
        self.oom_killed = False
        self.defect: BaseException | None = None
        """The unexpected exception of a behaviour; the container then ends with exit code 70."""

    @property
    def running(self) -> bool:
        """True if the container has started and not ended."""
        return self._status == "running"

    def start(self) -> None:
        """Run the behaviour in a thread. A second start does nothing, as with a real engine."""
        with self._lock:
            if self._status != "created":
                return
            self._status, self._started_at = "running", datetime.now(UTC)
        threading.Thread(target=self._play, name=f"fake-{self.spec.name}", daemon=True).start()

    def _play(self) -> None:
        try:
            code = self._behaviour(self)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - the test reads it from `defect`
            self.defect, code = error, 70
        self.end(code)

    def end(self, exit_code: int) -> None:
        """End the container with this exit code, unless it has ended already."""
        with self._lock:
            if self._status == "running":
                self._status, self._exit_code, self._finished_at = "exited", exit_code, datetime.now(UTC)
        self.streams.end()
        self.ended.set()

    def inspection(self) -> Inspection:
        """Return the answer of the inspect call."""
        spec = self.spec
        with self._lock:
            state = EngineState(
                status=self._status,
                exit_code=self._exit_code,
                oom_killed=self.oom_killed,
                started_at=self._started_at,
                finished_at=self._finished_at,
            )
        return Inspection(
            id=self.id,
            name=spec.name,
            state=state,
            labels=self.labels,
            effective=effective_of(spec),
        )

    def found(self) -> FoundObject:
        """Return the container as `find` reports it."""
        return FoundObject(
            kind="container", id=self.id, name=self.spec.name, labels=self.labels, created_at=self.created_at
        )


def effective_of(spec: ContainerSpec) -> EffectiveSettings:
    """Return the settings that an engine reports if all requested settings are in effect."""
    return EffectiveSettings(
        memory_bytes=spec.memory_bytes,
        swap_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        pids=spec.pids,
        nofile=(spec.nofile, spec.nofile),
        core=(0, 0),
        shm_bytes=spec.shm_bytes,
        network=spec.network,
        ipc="private",
        cgroup_namespace="private",
        log_driver="none",
        capabilities_added=spec.capabilities,
        capabilities_dropped=("ALL",),
        seccomp="profile",
        seccomp_digest=text_digest(spec.seccomp),
        no_new_privileges=True,
        read_only_root=spec.read_only_root,
        user=spec.user,
        image_id=spec.image_id,
        mounts=spec.mounts,
        tmpfs=spec.tmpfs,
        entrypoint=spec.entrypoint,
        argv=spec.argv,
        env=tuple(f"{name}={value}" for name, value in spec.env.items()),
        working_dir=spec.working_dir,
        hostname=spec.hostname,
        tty=spec.tty,
        stdin_open=spec.stdin_open,
        health_check=False,
        restart="no",
        cgroup_parent=spec.cgroup_parent,
    )


class FakeStats:
    """A stream of a container's statistics: one answer at once, then one every 50 ms while it runs."""

    def __init__(self, container: FakeContainer, answer: Mapping[str, object]) -> None:
        self._container = container
        self._answer = answer
        self._closed = threading.Event()
        self._asked = False

    def next(self) -> Mapping[str, object] | None:
        """Wait for the next answer; None if the container has ended or the stream was closed."""
        if self._asked and self._closed.wait(0.05):
            return None
        self._asked = True
        return self._answer if self._container.running and not self._closed.is_set() else None

    def close(self) -> None:
        """End the stream."""
        self._closed.set()


class FakeEvents:
    """A stream of events that a test adds."""

    def __init__(self) -> None:
        self._queue: Queue[Mapping[str, object] | None] = Queue()

    def put(self, event: Mapping[str, object]) -> None:
        """Add an event."""
        self._queue.put(event)

    def next(self) -> Mapping[str, object] | None:
        """Wait for the next event; None if the stream was closed."""
        return self._queue.get()

    def close(self) -> None:
        """End the stream."""
        self._queue.put(None)

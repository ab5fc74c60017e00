"""One container of the fake engine: its record, its streams, and the thread that plays its program."""

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
    """Plays a container's main process; its exit code."""


class Gone(Exception):  # noqa: N818 - not an error: how a behaviour's thread learns that its container has ended
    """The container was killed or removed; let it pass through."""


def exit_at_once(_: FakeContainer) -> int:
    """The shortest program."""
    return 0


class FakeChannel:
    """Both ends of a container's streams. As with a real container, reading goes on after its end."""

    def __init__(self) -> None:
        self._out: Queue[tuple[str, bytes]] = Queue()
        self._in: Queue[bytes] = Queue()
        self._input = b""
        self._closed = threading.Event()

    # ------------------------------------------------------------ our end

    def write(self, data: bytes) -> None:
        """Send to the container's standard input."""
        if self._closed.is_set():
            raise EngineError("writing to the container: it has ended")
        self._in.put(data)

    def stage(self, nonce: str, script: str) -> bytes:
        """What to write for the agent to run it."""
        return f"{nonce}\n{script}{nonce}\n".encode(errors="surrogateescape")

    def unlink(self) -> None:
        """Nothing to hide."""

    def read(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        """The next piece."""
        with contextlib.suppress(Empty):
            return self._out.get(timeout=max(0.0, timeout_seconds))
        return None

    def close(self) -> None:
        """Nothing is held."""

    # ------------------------------------------------------------ the container's end

    def send(self, stream: str, data: bytes) -> None:
        """Bytes on `stdout` or `stderr`. Gone: the container has ended."""
        if self._closed.is_set():
            raise Gone
        if data:
            self._out.put((stream, data))

    def read_line(self) -> bytes | None:
        """A line of the input without its newline; None: it ended. Gone: the container has ended."""
        while b"\n" not in self._input:
            with contextlib.suppress(Empty):
                self._input += self._in.get(timeout=0.01)
            if self._closed.is_set():
                raise Gone
        line, _, self._input = self._input.partition(b"\n")
        return line

    def end(self) -> None:
        """Both streams end."""
        if not self._closed.is_set():
            self._closed.set()
            self._out.put(("stdout", b""))
            self._out.put(("stderr", b""))


class FakeContainer:
    """What the engine knows of it, and what its behaviour may use: `streams`, `signals`, `spec`."""

    def __init__(
        self, container_id: str, spec: ContainerSpec, image_labels: Mapping[str, str], behaviour: Behaviour
    ) -> None:
        self.id = container_id
        self.spec = spec
        self.labels = {**image_labels, **spec.labels}  # as an engine does it: the image's are inherited
        self.streams = FakeChannel()
        self.signals: Queue[str] = Queue()
        """Names of signals sent to the container's processes, KILL by the engine excepted."""
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
        """What a behaviour raised by mistake; the container ended with 70 then."""

    @property
    def running(self) -> bool:
        """Started and not ended."""
        return self._status == "running"

    def start(self) -> None:
        """Run the behaviour. A second start changes nothing, as with a real engine."""
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
        except Exception as error:  # noqa: BLE001 - the test that wrote the behaviour looks at it
            self.defect, code = error, 70
        self.end(code)

    def end(self, exit_code: int) -> None:
        """The main process has ended; the first word counts."""
        with self._lock:
            if self._status == "running":
                self._status, self._exit_code, self._finished_at = "exited", exit_code, datetime.now(UTC)
        self.streams.end()
        self.ended.set()

    def inspection(self) -> Inspection:
        """What inspect says."""
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
        """What find says."""
        return FoundObject(
            kind="container", id=self.id, name=self.spec.name, labels=self.labels, created_at=self.created_at
        )


def effective_of(spec: ContainerSpec) -> EffectiveSettings:
    """What an obedient engine reports back."""
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
    """Statistics of a container: one answer, then another each 50 ms while it runs."""

    def __init__(self, container: FakeContainer, answer: Mapping[str, object]) -> None:
        self._container = container
        self._answer = answer
        self._closed = threading.Event()
        self._asked = False

    def next(self) -> Mapping[str, object] | None:
        """The next answer; None: the container has ended, or this was closed."""
        if self._asked and self._closed.wait(0.05):
            return None
        self._asked = True
        return self._answer if self._container.running and not self._closed.is_set() else None

    def close(self) -> None:
        """No more answers."""
        self._closed.set()


class FakeEvents:
    """A stream of events that a test writes."""

    def __init__(self) -> None:
        self._queue: Queue[Mapping[str, object] | None] = Queue()

    def put(self, event: Mapping[str, object]) -> None:
        """The engine tells this."""
        self._queue.put(event)

    def next(self) -> Mapping[str, object] | None:
        """The next one; None: it was closed."""
        return self._queue.get()

    def close(self) -> None:
        """No more events."""
        self._queue.put(None)

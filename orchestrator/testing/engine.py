"""An engine in memory, for tests of orch and of programs that use it.

A container is an object with a state; a `Behaviour` simulates its program in a thread. The same contract tests
(tests/contract) run on this engine and on `DockerEngine`. Failures are injected by `fail`, `create_late` and
`answer_wait`; `remove_externally` simulates another program.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.base import FoundObject, Inspection
from orchestrator.errors import ConflictError, EngineError, EngineTimeoutError, NotFoundError
from orchestrator.model.runs import EngineInfo
from orchestrator.testing.container import FakeContainer, FakeEvents, FakeStats, exit_at_once
from orchestrator.testing.images import FakeImages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.engine.base import Channel, ContainerSpec, StatsStream
    from orchestrator.testing.container import Behaviour

INFO = EngineInfo(
    name="fake",
    version="0",
    api_version="0",
    address="fake://",
    local=False,  # shares no files: streams go through `attach`, figures come from the agent alone
    cgroup_version=None,
    cgroup_driver=None,
    rootless=False,
    cpus=2,
    memory_bytes=8 << 30,
    kernel="fake",
    operating_system="fake",
    architecture="fake",
)
REMOVE_SECONDS = 2.0


class FakeEngine(FakeImages):
    """An in-memory implementation of `Engine`. `behave` returns the behaviour of a container by its settings."""

    def __init__(
        self,
        behave: Callable[[ContainerSpec], Behaviour] | None = None,
        *,
        info: EngineInfo = INFO,
        inside: Callable[[FakeContainer, tuple[str, ...]], int] | None = None,
    ) -> None:
        """Make an engine without containers; `inside` simulates the commands of `run_inside`."""
        super().__init__()
        self._behave = behave or (lambda _: exit_at_once)
        self._info = info
        self._inside = inside or _signal_from_inside
        self._lock = threading.RLock()
        self._containers: dict[str, FakeContainer] = {}
        self._objects: dict[str, FoundObject] = {}
        self._failures: dict[str, dict[int, EngineError]] = defaultdict(dict)
        self._numbers: dict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
        self._late_seconds: float | None = None
        self._wait_answers: list[object] = []
        self._remove_conflicts = 0
        self._events: FakeEvents | None = None
        self.calls: list[tuple[str, str]] = []
        """The calls in their order, as (name, subject)."""

    @property
    def info(self) -> EngineInfo:
        """The version and abilities that were passed to the constructor."""
        return self._info

    def close(self) -> None:
        """Do nothing: there are no connections."""

    # ------------------------------------------------------------ injected failures

    def fail(self, call: str, error: EngineError, *, at: int = 1, times: int = 1) -> None:
        """Let the `at`-th call of this name from now on, and the next ones, `times` in all, raise `error`."""
        with self._lock:
            first = next(self._numbers[call]) + at - 1
            self._numbers[call] = itertools.count(first - at + 1)
            for number in range(first, first + times):
                self._failures[call][number] = error

    def create_late(self, seconds: float) -> None:
        """Let the next `create` time out, and its container appear so many seconds later."""
        self._late_seconds = seconds

    def answer_wait(self, *answers: object) -> None:
        """Set the next answers of the engine's own wait call, whatever the state of the container."""
        self._wait_answers.extend(answers)

    def conflict_on_remove(self, times: int) -> None:
        """Let the next removals find another removal in progress, so many times."""
        self._remove_conflicts = times

    def remove_externally(self, container: str) -> None:
        """Remove a container as another program would."""
        with self._lock:
            found = self._get(container)
            del self._containers[found.id]
        found.end(137)

    def add_object(self, kind: str, name: str, labels: Mapping[str, str]) -> FoundObject:
        """Add a volume or a network as another program would."""
        found = FoundObject(kind=kind, id=name, name=name, labels=dict(labels))
        with self._lock:
            self._objects[f"{kind} {name}"] = found
        return found

    @property
    def containers(self) -> tuple[FakeContainer, ...]:
        """All containers that exist."""
        with self._lock:
            return tuple(self._containers.values())

    def _called(self, call: str, about: str) -> None:
        with self._lock:
            self.calls.append((call, about))
            error = self._failures[call].pop(next(self._numbers[call]), None)
        if error is not None:
            raise error

    def _get(self, container: str) -> FakeContainer:
        with self._lock:
            for found in self._containers.values():
                if container in (found.id, found.spec.name):
                    return found
        raise NotFoundError(f"no such container: {container}")

    # ------------------------------------------------------------ availability and events

    def ping(self, timeout_seconds: float) -> None:  # noqa: ARG002 - the Protocol has it
        """Answer, unless a failure was set by `fail`."""
        self._called("ping", "")

    def events(self, labels: Mapping[str, str], kinds: tuple[str, ...], since: float) -> FakeEvents:  # noqa: ARG002 - there is one stream
        """Return the stream that `emit_event` adds to and `end_events` ends."""
        self._called("events", " ".join(labels))
        self._events = FakeEvents()
        return self._events

    def emit_event(self, container: str, kind: str) -> None:
        """Add an event of another program's action on a container."""
        assert self._events is not None  # noqa: S101 - a caller of `events` reads them
        self._events.put({"Action": kind, "Actor": {"ID": container}, "timeNano": time.time_ns()})

    def end_events(self) -> None:
        """End the event stream, as the end of the engine does."""
        assert self._events is not None  # noqa: S101 - a caller of `events` reads them
        self._events.close()

    # ------------------------------------------------------------ containers

    def create(self, spec: ContainerSpec) -> str:
        """Create a container in the state `created`; return its id."""
        self._called("create", spec.name)
        if self.find_image(spec.image_id) is None:
            raise NotFoundError(f"creating container {spec.name}: no such image: {spec.image_id}")
        made = FakeContainer(secrets.token_hex(32), spec, self.image_labels(spec.image_id), self._behave(spec))
        late, self._late_seconds = self._late_seconds, None
        if late is not None:
            timer = threading.Timer(late, self._add, [made])
            timer.daemon = True
            timer.start()
            raise EngineTimeoutError(f"creating container {spec.name}: the engine did not answer in time")
        self._add(made)
        return made.id

    def _add(self, made: FakeContainer) -> None:
        with self._lock:
            if any(c.spec.name == made.spec.name for c in self._containers.values()):
                raise ConflictError(f"creating container {made.spec.name}: the name is taken")
            self._containers[made.id] = made

    def attach(self, container: str) -> Channel:
        """Return the container's streams."""
        self._called("attach", container)
        return self._get(container).streams

    def start(self, container: str) -> None:
        """Start the thread of the container's behaviour."""
        self._called("start", container)
        self._get(container).start()

    def inspect(self, container: str) -> Inspection:
        """Return the container's state and settings."""
        self._called("inspect", container)
        return self._get(container).inspection()

    def wait(self, container: str, timeout_seconds: float) -> int | None:
        """Return the exit code from the container's state, whatever the wait call answers; None after the time."""
        self._called("wait", container)
        found = self._get(container)
        deadline = time.monotonic() + timeout_seconds
        answer = self._wait_answers.pop(0) if self._wait_answers else None
        if answer is None:
            found.ended.wait(timeout_seconds)
        while True:
            state = self._get(container).inspection().state
            if state.status in ("exited", "dead"):
                return state.exit_code
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.005)

    def run_inside(self, container: str, argv: tuple[str, ...], timeout_seconds: float) -> int:
        """Return the answer of `inside`. Raises EngineTimeoutError if it takes longer than the time."""
        self._called("run_inside", " ".join(argv))
        found = self._get(container)
        if not found.running:
            raise ConflictError(f"running {argv[0]}: container {container[:12]} is not running")
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(self._inside(found, argv)), daemon=True)
        thread.start()
        thread.join(timeout_seconds)
        if not answers:
            raise EngineTimeoutError(f"running {argv[0]}: not done in {timeout_seconds:g} s")
        return answers[0]

    def limit_memory(self, container: str, memory_bytes: int) -> None:
        """Set the memory limit that `inspect` reports from now on."""
        self._called("limit_memory", container)
        found = self._get(container)
        found.spec = replace(found.spec, memory_bytes=memory_bytes)

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        """End the container with 137 on KILL; put other signals into its queue for the behaviour."""
        self._called("kill", container)
        try:
            found = self._get(container)
        except NotFoundError:
            return
        if signal_name.removeprefix("SIG") == "KILL":
            found.end(137)
        elif found.running:
            found.signals.put(signal_name.removeprefix("SIG"))

    def remove(self, container: str) -> None:
        """Remove a container in any state; retry while another removal is in progress."""
        self._called("remove", container)
        deadline = time.monotonic() + REMOVE_SECONDS
        while self._remove_conflicts > 0:
            self._remove_conflicts -= 1
            if time.monotonic() >= deadline:
                raise EngineError(f"container {container[:12]} could not be removed: removal is in progress")
            time.sleep(0.005)
        try:
            found = self._get(container)
        except NotFoundError:
            return
        with self._lock:
            self._containers.pop(found.id, None)
        found.end(137)

    def stats(self, container: str) -> Mapping[str, object]:
        """Return an answer without any figures."""
        self._called("stats", container)
        found = self._get(container)
        return {
            "id": found.id,
            "name": f"/{found.spec.name}",
            "memory_stats": {},
            "cpu_stats": {},
            "pids_stats": {},
        }

    def stats_stream(self, container: str) -> StatsStream:
        """Return a stream of the same answer until the container has ended."""
        self._called("stats_stream", container)
        return FakeStats(self._get(container), self.stats(container))

    def find(self, labels: Mapping[str, str]) -> tuple[FoundObject, ...]:
        """Return the objects with all these labels; an empty value matches any."""
        self._called("find", " ".join(labels))
        with self._lock:
            found = (*(c.found() for c in self._containers.values()), *self._objects.values())
        return tuple(f for f in found if _carries(f.labels, labels))

    def remove_object(self, found: FoundObject) -> None:
        """Remove an object that `find` returned."""
        if found.kind == "container":
            self.remove(found.id)
            return
        self._called("remove_object", found.name)
        with self._lock:
            self._objects.pop(f"{found.kind} {found.name}", None)


def _carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


def _signal_from_inside(container: FakeContainer, argv: tuple[str, ...]) -> int:
    """Simulate `sh -c "kill -NAME -1"`, which puts the signal into the container's queue; else return 127."""
    words = argv[-1].split()
    if words[:1] == ["kill"]:
        container.signals.put(words[1].removeprefix("-"))
        return 0
    return 127

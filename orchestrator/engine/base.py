"""What orch needs of a container engine, as Protocols, and the plain values that cross that door.

`docker.py` implements them on a real engine (Docker or Podman), `fake.py` in memory; the same contract tests
run on both. Every call has a deadline and raises a subclass of `EngineError`, never the SDK's own errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import BinaryIO

    from orchestrator.model.evidence import EngineState
    from orchestrator.model.runs import EngineInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A bind mount of a host path."""

    source: str
    target: str
    read_only: bool = True
    propagation: str = "rprivate"
    """Whether mounts made on one side later appear on the other: they never do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """All settings of one container, engine-neutral; `hardening` makes it, `repro` prints it."""

    name: str
    image_id: str
    entrypoint: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    working_dir: str
    hostname: str
    network: str
    mounts: tuple[Mount, ...]
    tmpfs: Mapping[str, str]
    """Path -> mount options."""
    cpus: float
    memory_bytes: int
    """Memory and swap together: no swap beyond it."""
    pids: int
    nofile: int
    shm_bytes: int
    capabilities: tuple[str, ...]
    seccomp: str
    """The profile's JSON text; never empty, never `unconfined`."""
    read_only_root: bool = True
    cgroup_parent: str | None = None
    stdin_open: bool = True
    tty: bool = False
    volumes: frozenset[str] = frozenset()
    """Folders that the image declares as volumes: the engine makes an empty one at each, and none is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings:
    """Settings of a container as the engine reports them back; None: the engine did not say."""

    memory_bytes: int | None = None
    swap_bytes: int | None = None
    """Memory and swap together; -1: without limit."""
    cpus: float | None = None
    pids: int | None = None
    nofile: tuple[int, int] | None = None
    """Soft and hard limit; -1: none was set."""
    core: tuple[int, int] | None = None
    """The same of core dumps."""
    shm_bytes: int | None = None
    network: str | None = None
    ipc: str | None = None
    cgroup_namespace: str | None = None
    log_driver: str | None = None
    capabilities_added: tuple[str, ...] = ()
    capabilities_dropped: tuple[str, ...] | None = None
    seccomp: str | None = None
    """`profile` when one is set, `unconfined`, or `default`: the engine's."""
    seccomp_digest: str | None = None
    """Of the profile's text, where the engine repeats it."""
    no_new_privileges: bool | None = None
    read_only_root: bool | None = None
    user: str | None = None
    image_id: str | None = None
    mounts: tuple[Mount, ...] | None = None
    """Bind mounts, also those that nobody asked for."""
    tmpfs: Mapping[str, str] | None = None
    masked_paths: tuple[str, ...] | None = None
    read_only_paths: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    argv: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    """`NAME=value`, the image's own among them."""
    working_dir: str | None = None
    hostname: str | None = None
    tty: bool | None = None
    stdin_open: bool | None = None
    health_check: bool | None = None
    """Whether one is run."""
    restart: str | None = None
    cgroup_parent: str | None = None
    volumes: frozenset[str] = frozenset()
    """Where volumes without a name of their own are mounted, which is what an image's declaration makes."""
    unrequested: tuple[str, ...] = ()
    """Settings that orch never asks for, and that are not at their neutral value (see `inspected`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One inspect call: the state, the settings in effect, the main process."""

    id: str
    name: str
    state: EngineState
    effective: EffectiveSettings
    labels: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None
    """Host pid of the main process while it runs; None when it does not or the engine is elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """A container, volume or network found by its labels."""

    kind: str
    """container, volume or network."""
    id: str
    name: str
    labels: Mapping[str, str]
    created_at: datetime | None = None


class Channel(Protocol):
    """The three streams of a running container. Readers own one thread; `write` may come from another."""

    def write(self, data: bytes) -> None:
        """Send to the container's standard input. Raises EngineError if it is closed."""

    def stage(self, nonce: str, script: str) -> bytes:
        """Lay the order for a test ready, while the one before it may still run: what is to be written for the
        agent to go on with it (see agent.sh). Raises EngineError.
        """

    def unlink(self) -> None:
        """The agent is there: what only it needs may go out of sight."""

    def read(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        """The next piece of (`stdout` | `stderr`, bytes); empty bytes: that stream ended.
        None: nothing came in time, or both have ended.
        """

    def close(self) -> None:
        """Release what it holds. May be called twice."""


class StatsStream(Protocol):
    """The engine's statistics of one container, about once a second."""

    def next(self) -> Mapping[str, object] | None:
        """The next answer, as the engine gives it; None: no more are to come. Raises EngineError."""

    def close(self) -> None:
        """End it, from any thread; a `next` that waits returns. May be called twice."""


class EventStream(Protocol):
    """What happens to containers, as the engine tells it."""

    def next(self) -> Mapping[str, object] | None:
        """The next event, awaited; None: the stream has ended, as it does with the engine. Raises EngineError."""

    def close(self) -> None:
        """End it, from any thread; a `next` that waits returns. May be called twice."""


class ContainerEngine(Protocol):
    """Containers, by id or by name."""

    @property
    def info(self) -> EngineInfo:
        """The engine's abilities, read once when it was opened."""

    def ping(self, timeout_seconds: float) -> None:
        """Return if the engine answers. EngineUnavailableError: not in that time."""

    def events(self, labels: Mapping[str, str], kinds: tuple[str, ...], since: float) -> EventStream:
        """Events of these kinds of the containers with these labels, from `since` (seconds since 1970) on. Raises
        EngineError, also where the engine is reached in a way that has no streams.
        """

    def create(self, spec: ContainerSpec) -> str:
        """Create, not start; the id. ConflictError: the name is taken."""

    def attach(self, container: str) -> Channel:
        """Streams of a created container; call it before `start` so that no byte is lost."""

    def start(self, container: str) -> None:
        """Start a created container."""

    def inspect(self, container: str) -> Inspection:
        """NotFoundError: it does not exist."""

    def wait(self, container: str, timeout_seconds: float) -> int | None:
        """Exit code once it has ended, None when time ran out. Falls back to `inspect` on any error of the
        wait call itself; NotFoundError: it does not exist.
        """

    def run_inside(self, container: str, argv: tuple[str, ...], timeout_seconds: float) -> int:
        """Run a command in a running container; its exit code."""

    def limit_memory(self, container: str, memory_bytes: int) -> None:
        """Hold a running container to so much memory from now on, swap included."""

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        """Signal the main process. No error if it has already ended."""

    def remove(self, container: str) -> None:
        """Force-remove, and poll until the engine no longer knows it. No error if it is gone already."""

    def stats(self, container: str) -> Mapping[str, object]:
        """One shot of the engine's own statistics, as it answers."""

    def stats_stream(self, container: str) -> StatsStream:
        """The same again and again, until the container is gone. NotFoundError: it does not exist."""

    def find(self, labels: Mapping[str, str]) -> tuple[FoundObject, ...]:
        """Containers (of any state), volumes and networks that carry all these labels."""

    def remove_object(self, found: FoundObject) -> None:
        """Remove what `find` found. No error if it is gone already."""

    def close(self) -> None:
        """Close the connections."""


class ImageEngine(Protocol):
    """Images."""

    def find_image(self, reference: str) -> str | None:
        """ID (`sha256:…`) of a local image by name or ID, or None."""

    def image_bytes(self, image_id: str) -> int:
        """Size on disk."""

    def image_labels(self, image_id: str) -> Mapping[str, str]:
        """Its labels."""

    def image_env(self, image_id: str) -> tuple[str, ...]:
        """Variables that its containers have, as `NAME=value`."""

    def image_volumes(self, image_id: str) -> frozenset[str]:
        """Folders that it declares as volumes."""

    def pull(self, reference: str, timeout_seconds: float) -> str:
        """Pull; the ID. ImageError where no registry answers or has it."""

    def build(
        self,
        *,
        context: BinaryIO,
        dockerfile: str,
        tags: tuple[str, ...],
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        network: str | None,
        on_line: Callable[[str], None],
    ) -> str:
        """Build from a tar stream; the ID. Tags are given after success. ImageError with the failing step."""

    def import_rootfs(self, archive: BinaryIO, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image of a root file system's tar stream; the ID."""

    def read_files(self, image_id: str, paths: tuple[str, ...]) -> Mapping[str, bytes]:
        """Contents of regular files of an image, links followed; a path that leads to none is left out."""

    def add_files(self, image_id: str, archive: bytes, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image of another one and the members of a tar archive, with the owners and modes that they have
        there; the ID. Runs nothing of the image.
        """

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image a further name."""

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last one. No error if it is gone already."""


class Engine(ContainerEngine, ImageEngine, Protocol):
    """Both."""

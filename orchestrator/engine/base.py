"""The interface of a container engine, as Protocols, and the values that its methods take and return.

`engine/docker/engine.py` implements it for Docker and Podman, `orchestrator/testing/engine.py` in memory; the same
contract tests run on both. Every method has a timeout and raises subclasses of `EngineError` only.
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
    """The propagation mode; with rprivate, later mounts on one side never appear on the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """All settings of one container, independent of the engine; made by `hardening.container_spec`."""

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
    """The mount options of each tmpfs, by its path."""
    cpus: float
    memory_bytes: int
    """The limit of memory and swap together."""
    pids: int
    nofile: int
    shm_bytes: int
    capabilities: tuple[str, ...]
    seccomp: str
    """The seccomp profile's JSON text; never empty, never `unconfined`."""
    read_only_root: bool = True
    cgroup_parent: str | None = None
    stdin_open: bool = True
    tty: bool = False
    volumes: frozenset[str] = frozenset()
    """The folders that the image declares as volumes. The engine creates an empty volume at each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings:
    """The settings of a container as the engine's inspect call reports them; None if it does not report one."""

    memory_bytes: int | None = None
    swap_bytes: int | None = None
    """The limit of memory and swap together; -1 means no limit."""
    cpus: float | None = None
    pids: int | None = None
    nofile: tuple[int, int] | None = None
    """The soft and hard limit of open files; -1 means that none was set."""
    core: tuple[int, int] | None = None
    """The soft and hard limit of the size of core dumps; -1 means that none was set."""
    shm_bytes: int | None = None
    network: str | None = None
    ipc: str | None = None
    cgroup_namespace: str | None = None
    log_driver: str | None = None
    capabilities_added: tuple[str, ...] = ()
    capabilities_dropped: tuple[str, ...] | None = None
    seccomp: str | None = None
    """`profile` if a profile is set, `unconfined`, or `default` for the engine's own profile."""
    seccomp_digest: str | None = None
    """The digest of the seccomp profile's text, if the engine reports the text."""
    no_new_privileges: bool | None = None
    read_only_root: bool | None = None
    user: str | None = None
    image_id: str | None = None
    mounts: tuple[Mount, ...] | None = None
    """All bind mounts, including those that were not requested."""
    tmpfs: Mapping[str, str] | None = None
    masked_paths: tuple[str, ...] | None = None
    read_only_paths: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    argv: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    """The environment variables as `NAME=value`, including those of the image."""
    working_dir: str | None = None
    hostname: str | None = None
    tty: bool | None = None
    stdin_open: bool | None = None
    health_check: bool | None = None
    """True if a health check runs in the container; None if the engine reports none."""
    restart: str | None = None
    cgroup_parent: str | None = None
    volumes: frozenset[str] = frozenset()
    """The mount points of anonymous volumes, which engines create for the volumes that an image declares."""
    unrequested: tuple[str, ...] = ()
    """Settings that orch never requests and that are not at their neutral value (see `inspected_settings`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The answer of an inspect call: the container's state, its settings in effect, and its main process."""

    id: str
    name: str
    state: EngineState
    effective: EffectiveSettings
    labels: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None
    """The pid of the main process on this machine; None if it does not run or the engine is on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """A container, volume or network found by its labels."""

    kind: str
    """One of `container`, `volume` and `network`."""
    id: str
    name: str
    labels: Mapping[str, str]
    created_at: datetime | None = None


class Channel(Protocol):
    """The three standard streams of a container. One thread reads; another thread may write."""

    def write(self, data: bytes) -> None:
        """Write to the container's standard input. Raises EngineError if it is closed."""

    def stage(self, nonce: str, script: str) -> bytes:
        """Prepare the script of a test while the test before it may still run.

        Return the bytes to `write` for the agent to run it (see agent.sh). Raises EngineError.
        """

    def unlink(self) -> None:
        """Remove the files of the streams once the agent has opened them, so that tests cannot see them."""

    def read(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        """Return the next piece of output as (`stdout` or `stderr`, bytes); empty bytes are a stream's end.

        Return None if nothing came within the time, or if both streams have ended.
        """

    def close(self) -> None:
        """Close the streams. May be called twice."""


class StatsStream(Protocol):
    """A stream of the engine's statistics of one container, about one answer a second."""

    def next(self) -> Mapping[str, object] | None:
        """Wait for the next answer and return it unchanged; None at the end of the stream. Raises EngineError."""

    def close(self) -> None:
        """End the stream; a thread that waits in `next` returns None. Any thread may call it, also twice."""


class EventStream(Protocol):
    """A stream of the engine's container events."""

    def next(self) -> Mapping[str, object] | None:
        """Wait for the next event and return it; None at the end of the stream. Raises EngineError.

        The stream also ends when the engine ends.
        """

    def close(self) -> None:
        """End the stream; a thread that waits in `next` returns None. Any thread may call it, also twice."""


class ContainerEngine(Protocol):
    """Operations on containers, which are named by their id or name."""

    @property
    def info(self) -> EngineInfo:
        """The engine's version and abilities, read once when the engine was opened."""

    def ping(self, timeout_seconds: float) -> None:
        """Raise EngineUnavailableError if the engine does not answer within the time."""

    def events(self, labels: Mapping[str, str], kinds: tuple[str, ...], since: float) -> EventStream:
        """Return a stream of the events `kinds` of containers with these labels, from `since` (epoch seconds).

        Raises EngineError, also if the engine's address does not support it.
        """

    def create(self, spec: ContainerSpec) -> str:
        """Create a container without starting it; return its id. Raises ConflictError if the name is taken."""

    def attach(self, container: str) -> Channel:
        """Return the streams of a created container. Call it before `start`, so that no byte is lost."""

    def start(self, container: str) -> None:
        """Start a created container."""

    def inspect(self, container: str) -> Inspection:
        """Return the container's state and settings. Raises NotFoundError if it does not exist."""

    def wait(self, container: str, timeout_seconds: float) -> int | None:
        """Return the exit code once the container has ended, None if it still runs after the time.

        The exit code comes from `inspect`, whatever the engine's own wait call answers. Raises NotFoundError if
        the container does not exist.
        """

    def run_inside(self, container: str, argv: tuple[str, ...], timeout_seconds: float) -> int:
        """Run a command in a running container and return its exit code. Raises EngineTimeoutError."""

    def limit_memory(self, container: str, memory_bytes: int) -> None:
        """Set the limit of memory and swap together of a running container."""

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        """Send a signal to the main process; do nothing if it has already ended."""

    def remove(self, container: str) -> None:
        """Remove a container in any state and wait until it is gone; do nothing if it does not exist."""

    def stats(self, container: str) -> Mapping[str, object]:
        """Return one answer of the engine's statistics call, unchanged."""

    def stats_stream(self, container: str) -> StatsStream:
        """Return a stream of statistics that ends with the container. Raises NotFoundError if there is none."""

    def find(self, labels: Mapping[str, str]) -> tuple[FoundObject, ...]:
        """Return the containers (in any state), volumes and networks that have all these labels.

        An empty value matches any value of that label.
        """

    def remove_object(self, found: FoundObject) -> None:
        """Remove an object that `find` returned; do nothing if it does not exist."""

    def close(self) -> None:
        """Close the connections."""


class ImageEngine(Protocol):
    """Operations on images."""

    def find_image(self, reference: str) -> str | None:
        """Return the ID (`sha256:…`) of a local image by its name or ID, None if there is none."""

    def image_bytes(self, image_id: str) -> int:
        """Return the image's size on disk in bytes."""

    def image_labels(self, image_id: str) -> Mapping[str, str]:
        """Return the image's labels."""

    def image_env(self, image_id: str) -> tuple[str, ...]:
        """Return the environment variables of the image's containers, as `NAME=value`."""

    def image_volumes(self, image_id: str) -> frozenset[str]:
        """Return the folders that the image declares as volumes."""

    def pull(self, reference: str, timeout_seconds: float) -> str:
        """Pull an image and return its ID. Raises ImageError if no registry answers or has it."""

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
        """Build an image from a tar stream and return its ID; the tags are set after success.

        `on_line` is called with each line of the build's output. Raises ImageError, which names the failing step.
        """

    def import_rootfs(self, archive: BinaryIO, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image from the tar stream of a root file system and return its ID."""

    def read_files(self, image_id: str, paths: tuple[str, ...]) -> Mapping[str, bytes]:
        """Return the contents of regular files of an image by path; links are followed, missing files left out."""

    def add_files(self, image_id: str, archive: bytes, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image from another one and the members of a tar archive, and return its ID.

        Owners and modes are those of the archive. No program of the image is run.
        """

    def tag(self, image_id: str, reference: str) -> None:
        """Add a name to an image."""

    def remove_image(self, reference: str) -> None:
        """Remove a name of an image, and the image with its last name; do nothing if it does not exist."""


class Engine(ContainerEngine, ImageEngine, Protocol):
    """Container and image operations of one engine."""

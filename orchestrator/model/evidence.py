"""Evidence of an attempt: what agent, engine and kernel reported, before `verdict` judges it.

Times of day are timezone-aware UTC; durations are seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.model.usage import Sample, Usage

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverProcess:
    """A process that still ran when its test had ended."""

    pid: int
    command_line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverFiles:
    """Files that a test left in one of its writable places, as the agent found them at the test's end."""

    place: str
    entries: int
    """Number of entries at the top level."""
    names: tuple[str, ...] = ()
    """Names of the first few entries, without names that contain a line break."""
    used_bytes: int | None = None
    size_bytes: int | None = None
    used_inodes: int | None = None
    """Number of files and folders at any depth."""
    size_inodes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverIpc:
    """A System V IPC object or POSIX message queue that a test left."""

    kind: str
    """shm, sem, msg or mqueue."""
    name: str
    """The kernel's id of the object; for a POSIX message queue its name."""
    amount: int | None = None
    """Bytes of a segment, number of semaphores of a set, or bytes waiting in a queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """The end record of agent.sh, the first witness. It exists only if its nonce was right."""

    exit_code: int
    """0 to 255; 128+n if signal n ended the command, as in shells."""
    leftovers: tuple[LeftoverProcess, ...] = ()
    dirty: tuple[str, ...] = ()
    """Writable places, and other state, that could not be reset; the slot is removed."""
    modes: tuple[str, ...] = ()
    """Writable places whose file mode the test changed."""
    places: tuple[LeftoverFiles, ...] = ()
    """Writable places that were not empty at the test's end."""
    ipc: tuple[LeftoverIpc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """State of a container as reported by the engine's inspect call, the second witness."""

    status: str
    """created, running, paused, restarting, removing, exited, dead; "gone" if the engine does not know the
    container.
    """
    exit_code: int | None = None
    oom_killed: bool | None = None
    """The engine's report of an OOM kill. It can be wrong, so it is never used alone."""
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChunk:
    """Arrival of a chunk of output: it begins `offset` bytes into its stream and arrived `at_seconds` after the
    test's start.
    """

    at_seconds: float
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLog:
    """One output stream of a test; the file `path` has its kept bytes unchanged."""

    path: Path | None
    """None: the test wrote nothing, or nothing is kept."""
    total_bytes: int
    kept_bytes: int
    tail: bytes
    """The last bytes of the whole stream, at most 64 KiB, for display."""
    chunks: tuple[OutputChunk, ...] = ()

    @property
    def truncated(self) -> bool:
        """True if bytes beyond the cap were dropped."""
        return self.kept_bytes < self.total_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Phases of an attempt, in seconds. `test_seconds` does not include queueing and start-up."""

    queue_seconds: float = 0.0
    create_seconds: float = 0.0
    start_seconds: float = 0.0
    test_seconds: float = 0.0
    teardown_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """Effective settings of the container, read back from the engine and the kernel."""

    container_name: str
    container_id: str
    image_id: str
    limits_from_kernel: bool = False
    """True: the effective limits were read from the kernel by the agent. False: they are the engine's answer."""
    effective_memory_bytes: int | None = None
    effective_cpus: float | None = None
    effective_pids: int | None = None
    network: str | None = None
    capabilities: tuple[str, ...] = ()
    seccomp: str | None = None
    read_only_root: bool | None = None
    user: str | None = None
    capabilities_effective: str | None = None
    """CapEff of the shell that starts the test: a hexadecimal mask in the kernel's format."""
    capabilities_bounding: str | None = None
    """CapBnd of the same shell: the capabilities that a program inside can get at most."""
    no_new_privileges: bool | None = None
    seccomp_mode: int | None = None
    """Seccomp mode from the kernel: 0 none, 1 strict, 2 filter."""
    engine: str | None = None
    """Name and version of the engine."""
    kernel: str | None = None
    cgroup_version: int | None = None
    mismatches: tuple[str, ...] = ()
    """A sentence for each setting that differs from what was requested. If there are any, the attempt is `infra`.
    """


class Launch(StrEnum):
    """Way in which a test was started inside its container."""

    PROCESS = "process"
    """Started as a new program."""
    FORKED = "forked"
    """Forked from a runner that was started before (`Preload`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """Use of a container by an attempt: alone, or after other tests."""

    position: int = 1
    """1 for the first test of the container, 2 for the second, and so on."""
    launch: Launch = Launch.PROCESS
    note: str | None = None
    """Remark for metrics.json: why the test was not forked although its suite is preloaded, what was reset after
    it, or why the container was removed after it.
    """
    unclean: str | None = None
    """The traces or changes that the test left in its container, because of which `reuse: auto` gives it a fresh
    one in its next runs; None: nothing.
    """

    @property
    def reused(self) -> bool:
        """True if an earlier test, or the preloaded runner, used the same container: a failure may be caused by
        it.
        """
        return self.position > 1 or self.launch is Launch.FORKED


BUSY_SHARE = 0.1
BUSY_LEAST_SECONDS = 0.1
"""The host was busy if a test waited for at least this share of its time, and at least so many seconds, for CPUs
that other processes used.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was observed of one attempt: the input of `verdict`."""

    agent: AgentRecord | None
    engine: EngineState | None
    agent_expected: bool = True
    """False for an image without a shell, where the engine is the only witness."""
    timed_out: bool = False
    interrupted: bool = False
    engine_failure: str | None = None
    """An engine error because of which the test did not run or could not be observed."""
    usage: Usage = field(default_factory=Usage)
    samples: tuple[Sample, ...] = ()
    stdout: OutputLog
    stderr: OutputLog
    outputs: tuple[str, ...] = ()
    """Files that were copied from the container, relative to the attempt's outputs folder."""
    outputs_notes: tuple[str, ...] = ()
    """A line for each output that was not copied, with the reason (a symlink, beyond the cap)."""
    timings: Timings
    started_at: datetime
    attestation: Attestation | None = None
    leaked_objects: tuple[str, ...] = ()
    """Engine objects (containers, volumes, networks) that the test created and left."""
    slot: SlotUse = field(default_factory=SlotUse)
    kept: bool = False
    """True if the container was kept for another test; the second witness then reports that it runs."""
    kernel_exit_code: int | None = None
    """Exit code of the test's process from the kernel's process events; None: they were not available."""
    cpu_waited_seconds: float | None = None
    """Time in which the test could not run because other processes used the CPUs; throttling by its own quota is
    not included. It does not count against the time limit. None: the test was too short, or it cannot be measured.
    """
    starved: bool = False
    """True if the test was terminated at its limit although other processes used the CPUs nearly all the time."""

    @property
    def counted_seconds(self) -> float:
        """The part of the test's time, in seconds, that counts against its limit."""
        return max(0.0, self.timings.test_seconds - (self.cpu_waited_seconds or 0.0))

    @property
    def inconclusive(self) -> bool:
        """True if a failure may have another cause than the test, so that the test is repeated alone, or in a
        fresh container.
        """
        return self.slot.reused or self.starved

    @property
    def host_busy(self) -> str:
        """A remark such as `host busy: 1.5 s of CPU in 10 s` if the test waited for CPUs for a tenth of its time
        or more; else an empty string.
        """
        waited, seconds = self.cpu_waited_seconds, self.timings.test_seconds
        if waited is None or waited < max(BUSY_SHARE * seconds, BUSY_LEAST_SECONDS):
            return "host busy" if self.starved else ""
        cpu_seconds = self.usage.cpu_seconds
        got = f"waited {waited:.3g} s" if cpu_seconds is None else f"{cpu_seconds:.2g} s of CPU"
        return f"host busy: {got} in {seconds:.3g} s"

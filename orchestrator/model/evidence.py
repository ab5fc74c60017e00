"""TO BE WRITTEN."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.model.usage import Sample, Usage

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A process that was still there when its test had ended."""

    pid: int
    command_line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceLeft:
    """What a test left in one of its writable places, by the agent's look at the test's end."""

    place: str
    entries: int
    """At its top level."""
    names: tuple[str, ...] = ()
    """The first few, as far as they stand on one line."""
    used_bytes: int | None = None
    size_bytes: int | None = None
    used_inodes: int | None = None
    """All files and folders in it, at any depth."""
    size_inodes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IpcLeft:
    """A System V object or POSIX message queue that a test left."""

    kind: str
    """shm, sem, msg or mqueue."""
    name: str
    """The kernel's id; of a queue its name."""
    amount: int | None = None
    """Bytes of a segment, semaphores of a set, bytes waiting in a queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """The end record of agent.sh: the first witness. Present only when its nonce was right."""

    exit_code: int
    """0 to 255; 128+n where a signal ended the command, as shells write it."""
    leftovers: tuple[Leftover, ...] = ()
    dirty: tuple[str, ...] = ()
    """Writable places that could not be emptied, or what else could not be set back; the slot is thrown away."""
    modes: tuple[str, ...] = ()
    """Writable places whose mode was no longer what it was before the test."""
    places: tuple[PlaceLeft, ...] = ()
    """Writable places that were not empty at the test's end."""
    ipc: tuple[IpcLeft, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """What the engine's inspect says of a container: the second witness."""

    status: str
    """created, running, paused, restarting, removing, exited, dead; "gone" when the engine does not know it."""
    exit_code: int | None = None
    oom_killed: bool | None = None
    """As the engine says; known to lie, never used alone."""
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChunk:
    """When a piece of output arrived: `offset` bytes into its stream at `at_seconds` since the start."""

    at_seconds: float
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLog:
    """One output stream of a test. The kept bytes are in `path` unchanged."""

    path: Path | None
    """None: nothing was written, or nothing is kept."""
    total_bytes: int
    kept_bytes: int
    tail: bytes
    """The last bytes of the whole stream, at most 64 KiB, for display."""
    chunks: tuple[OutputChunk, ...] = ()

    @property
    def truncated(self) -> bool:
        """True if bytes were dropped at the cap."""
        return self.kept_bytes < self.total_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where an attempt's time went, in seconds. `test_seconds` never includes queueing or start-up."""

    queue_seconds: float = 0.0
    create_seconds: float = 0.0
    start_seconds: float = 0.0
    test_seconds: float = 0.0
    teardown_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What the container really was, read back from the engine and the kernel."""

    container_name: str
    container_id: str
    image_id: str
    limits_from_kernel: bool = False
    """The effective limits are the kernel's, read by the agent; False: the engine's word."""
    effective_memory_bytes: int | None = None
    effective_cpus: float | None = None
    effective_pids: int | None = None
    network: str | None = None
    capabilities: tuple[str, ...] = ()
    seccomp: str | None = None
    read_only_root: bool | None = None
    user: str | None = None
    capabilities_effective: str | None = None
    """CapEff of the shell that starts the test: a hexadecimal mask, as the kernel writes it."""
    capabilities_bounding: str | None = None
    """CapBnd: what no program inside can ever get beyond."""
    no_new_privileges: bool | None = None
    seccomp_mode: int | None = None
    """The kernel's: 0 none, 1 strict, 2 filter."""
    engine: str | None = None
    """Name and version."""
    kernel: str | None = None
    cgroup_version: int | None = None
    mismatches: tuple[str, ...] = ()
    """A sentence for each setting that is not what was asked for: the attempt is `infra` then."""


class Launch(StrEnum):
    """How a test was started inside its container."""

    PROCESS = "process"
    """As a program of its own."""
    FORKED = "forked"
    """From a runner that the slot had started before (`Preload`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """How a test ran: alone in a new container, or after others."""

    position: int = 1
    """1 for the first test of its container, 2 for the second, …"""
    launch: Launch = Launch.PROCESS
    note: str | None = None
    """Why it was not forked although it could have been, what it changed that was set back after it, or why its
    container was given up after it.
    """

    @property
    def reused(self) -> bool:
        """The test did not have a container all to itself, so that its failure may be another's fault."""
        return self.position > 1 or self.launch is Launch.FORKED


BUSY_SHARE = 0.1
BUSY_LEAST_SECONDS = 0.1
"""Of a test's time, waited for CPUs that others had: from both on the host counts as busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was seen of one attempt, before anyone judges it. Input of `verdict`."""

    agent: AgentRecord | None
    engine: EngineState | None
    agent_expected: bool = True
    """False for an image without a shell: there is one witness only."""
    timed_out: bool = False
    interrupted: bool = False
    engine_failure: str | None = None
    """An error of the engine that kept the test from running or from being seen."""
    usage: Usage = field(default_factory=Usage)
    samples: tuple[Sample, ...] = ()
    stdout: OutputLog
    stderr: OutputLog
    outputs: tuple[str, ...] = ()
    """Files that came back, relative to the attempt's outputs folder."""
    outputs_notes: tuple[str, ...] = ()
    """What did not come back, and why (a symlink, over the cap, …)."""
    timings: Timings
    started_at: datetime
    attestation: Attestation | None = None
    leaked_objects: tuple[str, ...] = ()
    """Engine objects (container, volume, network) that the test left."""
    slot: SlotUse = field(default_factory=SlotUse)
    kept: bool = False
    """The container was to live on for another test: the second witness's word is that it runs."""
    kernel_exit_code: int | None = None
    """Of the test's process, by the kernel's own events and past the agent; None: they were not to be had."""
    cpu_waited_seconds: float | None = None
    """Of the test's time: could not run because others had the CPUs; not its quota's doing. It is not counted
    against the time limit. None: too short to be asked, or it cannot be seen.
    """
    starved: bool = False
    """It was ended although it had had too little of that limit: others had the CPUs nearly all the time."""

    @property
    def counted_seconds(self) -> float:
        """Of the test's time: what counts against its limit."""
        return max(0.0, self.timings.test_seconds - (self.cpu_waited_seconds or 0.0))

    @property
    def inconclusive(self) -> bool:
        """A failure may not be the test's own: it is tried again, alone or in a fresh container."""
        return self.slot.reused or self.starved

    @property
    def host_busy(self) -> str:
        """`host busy: 1.5 s of CPU in 10 s`, of a test that could not run for a tenth of its time or more because
        others had the CPUs; else empty.
        """
        waited, seconds = self.cpu_waited_seconds, self.timings.test_seconds
        if waited is None or waited < max(BUSY_SHARE * seconds, BUSY_LEAST_SECONDS):
            return "host busy" if self.starved else ""
        cpu_seconds = self.usage.cpu_seconds
        got = f"waited {waited:.3g} s" if cpu_seconds is None else f"{cpu_seconds:.2g} s of CPU"
        return f"host busy: {got} in {seconds:.3g} s"

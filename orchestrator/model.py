"""Every value that crosses a stage: frozen, slotted, keyword-only; units are in the names.

A missing figure is `None`, never 0. Times of day are timezone-aware UTC `datetime`; durations are float
seconds taken from a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

# ---------------------------------------------------------------- what the user configures


class Network(StrEnum):
    """The network a container gets."""

    NONE = "none"
    BRIDGE = "bridge"


class Runner(StrEnum):
    """How a suite's tests are listed, started and read."""

    PYTEST = "pytest"
    SHELL = "shell"
    COMMAND = "command"


class ResultsFormat(StrEnum):
    """Where the cases inside a test come from."""

    JUNIT = "junit"
    TAP = "tap"
    EXIT_CODE = "exit-code"


class Granularity(StrEnum):
    """What gets a scope of its own: a file, or each case that the runner can list."""

    FILE = "file"
    CASE = "case"


class Preload(StrEnum):
    """How far a runner may be started once for many tests, each of which is then forked from it."""

    OFF = "off"
    """Each test starts a program of its own."""
    START = "start"
    """The interpreter, the runner and its plugins are there; a test is collected after the fork."""
    COLLECT = "collect"
    """The tests are collected too: their modules have been imported before the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container may use. In an Attempt these are the effective ones."""

    cpus: float
    memory_bytes: int
    timeout_seconds: float
    tmpfs_bytes: int
    tmpfs_inodes: int
    outputs_bytes: int
    """Size of the writable `$ORCH_OUTPUT_DIR` (a tmpfs; what is in it comes back)."""
    shm_bytes: int
    pids: int
    nofile: int
    log_bytes: int
    """Kept bytes of each output stream; what comes after is read, counted and dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a figure becomes a violation. Ratios are of the limit, 0 to 1; None switches a check off."""

    memory_near_ratio: float | None = 0.9
    time_near_ratio: float | None = 0.9
    pids_near_ratio: float | None = 0.9
    cpu_seconds: float | None = None
    """Budget of CPU seconds for one test."""
    throttled_ratio: float | None = 0.25
    """Throttled seconds over the test's duration."""
    log_bytes: int | None = None
    """Output above this is a flood; None: only a truncated log is."""
    memory_growth_ratio: float | None = 0.25
    """Anonymous memory that keeps growing by more than this share of the limit; see `verdict.trend`."""
    oversized_ratio: float | None = 0.5
    """A chosen profile is too large for a test that needs at most this share of the next smaller one."""
    tmpfs_near_ratio: float | None = 0.9
    """Used share of the bytes or the inodes of /tmp, /dev/shm or the outputs."""
    open_files_growth: int | None = 20
    """Open files by which one process must keep growing."""
    threads_growth: int | None = 8
    """Threads by which one process must keep growing."""
    files_left: int | None = 16
    """Entries left in /tmp."""
    files_left_bytes: int | None = 16 << 20
    """Bytes left in /tmp."""
    disk_write_bytes: int | None = 16 << 20
    """Written to block devices; a test has no writable place on one, save a volume of its image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named bundle of limits and the environment they hold in."""

    name: str
    description: str = ""
    limits: Limits
    network: Network
    image: str
    """Name of an `ImageSpec`."""
    capabilities: tuple[str, ...] = ()
    """Capabilities given back after all were dropped, without the CAP_ prefix."""
    grace_seconds: float = 2.0
    """Between TERM and KILL."""
    reuse: int = 1
    """How many tests one slot may take; 1: a fresh container for each."""
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Where an image comes from: built from a Dockerfile, or a reference that the engine has or can pull."""

    name: str
    dockerfile: Path | None = None
    context: Path | None = None
    reference: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    """BASE_IMAGE when it is another image of this configuration (its name); that one is built first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Which files are tests, and how they are run."""

    name: str
    match: tuple[str, ...]
    """Globs relative to the project's root; `**` spans folders."""
    exclude: tuple[str, ...] = ()
    runner: Runner
    command: tuple[str, ...] = ()
    """Template for Runner.COMMAND (`{test}`, `{name}`, `{output_dir}`), extra arguments for the others."""
    results: ResultsFormat | None = None
    """None: the runner's own (pytest: junit, shell and command: exit-code)."""
    granularity: Granularity = Granularity.FILE
    preload: Preload = Preload.OFF
    """Only where a profile's slots are reused, and only for pytest."""
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    """Names of host variables that are handed through."""
    profile: str | None = None
    """Profile of the suite's tests where no rule matches."""
    working_dir: str = "."
    """Relative to the project's root; must stay inside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Maps tests to a profile; all conditions given must hold; the first rule that matches wins."""

    profile: str | None = None
    match: str | None = None
    marker: str | None = None
    suite: str | None = None
    retries: int | None = None
    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    exclusive: bool = False
    """Nothing else runs beside the test."""
    group: str | None = None
    """Tests of a group run one at a time."""
    place: str = ""
    """file:line of the rule, for reasons and errors."""


# ---------------------------------------------------------------- what is run


class LeftOutReason(StrEnum):
    """Why tests that plain pytest, or a suite's globs, would find are not run. Each completes "3 not run: "."""

    OUTSIDE = "they lead out of the project"
    BEHIND_LINKS = "they are behind links that are not followed"
    UNREADABLE = "their folder cannot be read"
    NOT_UTF8 = "their names are not UTF-8"
    PLACEHOLDER = "their names contain {output_dir}, which stands for the outputs folder in commands"
    NO_SUITE = "pytest's python_files matches them, no suite does"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A test, or a folder of tests, that a search for tests came upon and that cannot run."""

    path: str
    """Relative to the project's root; what is not UTF-8 as escapes."""
    reason: LeftOutReason


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TestId:
    """Identity of a test within a project: stable between runs and machines."""

    __test__ = False  # not a pytest class

    path: str
    """POSIX path relative to the project's root."""
    case: str | None = None
    """The runner's own name of a case inside the file (pytest: what follows the first `::`)."""

    def __str__(self) -> str:
        return self.path if self.case is None else f"{self.path}::{self.case}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a test is started inside a container, and how its result is read."""

    argv: tuple[str, ...]
    """May contain `{output_dir}`, replaced by the container's `$ORCH_OUTPUT_DIR`."""
    working_dir: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    results: ResultsFormat = ResultsFormat.EXIT_CODE
    results_file: str | None = None
    """Relative to the output folder; JUnit there, or None: TAP on stdout."""
    skip_exit_codes: frozenset[int] = frozenset()
    """Exit codes that mean "nothing was run" (pytest 5, automake's 77)."""
    preload: Preload = Preload.OFF
    """What a slot that is reused may do once for all its tests of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One schedulable test, as found by a suite."""

    __test__ = False

    id: TestId
    suite: str
    command: Command
    markers: frozenset[str] = frozenset()
    profile_hint: str | None = None
    """From a comment `orch: profile=NAME` near the top of the file."""
    suite_profile: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the database knows of a test, for ordering and admission. From at least one earlier attempt."""

    attempts: int
    duration_seconds_p95: float
    memory_bytes_p95: int | None
    cpus_p95: float | None
    """CPU seconds per second of duration."""
    last_outcome: Outcome
    memory_refused_bytes: int | None = None
    """The largest limit at which it was out of memory lately; None: it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A test, the profile it runs under, and why. The unit that an executor takes."""

    run_id: str
    test: Test
    profile: Profile
    """With effective limits: rule overrides applied, clamped to the host."""
    reason: str
    clamped: tuple[str, ...] = ()
    """Notices of limits that were lowered to what the host has."""
    attempt: int = 1
    repetition: int = 1
    """1 to N of --repeat N."""
    retries: int = 0
    exclusive: bool = False
    group: str | None = None
    history: History | None = None

    @property
    def key(self) -> str:
        """Names a test among those that run at the same time: its id, and which repetition it is."""
        name = str(self.test.id)
        return name if self.repetition == 1 else f"{name}#{self.repetition}"


# ---------------------------------------------------------------- what was seen


class Source(StrEnum):
    """Where a figure comes from, best first."""

    KERNEL = "kernel"
    AGENT = "agent"
    STATS = "stats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One point of a test's time series. Counters are totals since the test's start."""

    at_seconds: float
    """Since the test was released."""
    memory_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    cpu_seconds: float | None = None
    pids: int | None = None
    """Tasks: processes and threads, as the kernel's pids controller counts them."""
    processes: int | None = None
    threads: int | None = None
    """Of all processes together."""
    open_files: int | None = None
    """Descriptors of all processes together."""
    process_threads_max: int | None = None
    """Of the process that has the most."""
    process_open_files_max: int | None = None
    """Of the process that has the most."""
    read_bytes: int | None = None
    write_bytes: int | None = None
    throttled_seconds: float | None = None
    memory_pressure_ratio: float | None = None
    """PSI: share of the last 10 s in which some task waited for memory, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one attempt used, from start of the test to its end. None: not measured, `missing` says why."""

    cpu_seconds: float | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    memory_peak_bytes: int | None = None
    """What the test itself needed at most beyond the floor: anonymous, shared and kernel memory, no page cache."""
    memory_floor_bytes: int | None = None
    """What stood charged before the test began: agent, what it was forked from, page cache of earlier tests."""
    memory_charged_peak_bytes: int | None = None
    """All that was charged to the container at once: floor, own memory and page cache."""
    page_cache_bytes: int | None = None
    """Page cache charged while it ran, which the kernel can take back: in no way needed."""
    anon_peak_bytes: int | None = None
    file_peak_bytes: int | None = None
    shmem_peak_bytes: int | None = None
    swap_peak_bytes: int | None = None
    pids_peak: int | None = None
    oom_kills: int | None = None
    pids_limit_hits: int | None = None
    """Forks refused by the pids limit."""
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Figure's field name -> source, for each figure that is not None."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Figure's field name -> reason, for each figure that is None."""
    memory_peak_is_upper_bound: bool = False
    """True where the kernel's peak was as high before the test (runtime's start, an earlier test) and could not be
    reset.
    """
    memory_peak_is_lower_bound: bool = False
    """True where page cache was charged too, and nobody saw how much of the kernel's peak was of it."""
    upper_bounds: tuple[str, ...] = ()
    """Names of the peaks of which that is true."""
    disagreements: Mapping[str, str] = field(default_factory=dict)
    """Figure's field name -> sentence, where two sources differ by more than they may."""
    overheads: Mapping[str, float] = field(default_factory=dict)
    """Figure's field name -> what a test that does nothing costs here, subtracted from the figure."""
    before_test: Mapping[str, float] = field(default_factory=dict)
    """Figure's field name -> what the container had used when the test was released; not in the figure."""


USAGE_NOTES = frozenset(
    {
        "sources",
        "missing",
        "memory_peak_is_upper_bound",
        "memory_peak_is_lower_bound",
        "upper_bounds",
        "disagreements",
        "overheads",
        "before_test",
    }
)
"""Names of Usage's fields that are no figures, but say something about them."""


class Outcome(StrEnum):
    """Why a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OOM = "oom"
    CRASHED = "crashed"
    INFRA = "infra"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"


FAILING = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.OOM, Outcome.CRASHED})
"""Outcomes that are the test's own fault: retried, counted by `max_fail`."""
GOOD = frozenset({Outcome.PASSED, Outcome.SKIPPED})
"""Outcomes that nobody has to look at."""


class CaseOutcome(StrEnum):
    """Outcome of one case inside a test, in the words of JUnit and TAP."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    XFAILED = "xfailed"


FAILING_CASES = frozenset({CaseOutcome.FAILED, CaseOutcome.ERROR})
"""Outcomes of a case that its test has failed by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case as its runner reported it."""

    name: str
    outcome: CaseOutcome
    duration_seconds: float | None = None
    message: str = ""


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


class Severity(StrEnum):
    """How grave a violation is."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


class ViolationKind(StrEnum):
    """Which budget was broken."""

    MEMORY_NEAR = "memory-near"
    MEMORY_OVER = "memory-over"
    MEMORY_GROWTH = "memory-growth"
    CHILD_OOM = "child-oom"
    CPU_BUDGET = "cpu-budget"
    CPU_THROTTLED = "cpu-throttled"
    TIME_NEAR = "time-near"
    TIME_OVER = "time-over"
    OVERSIZED = "oversized"
    PIDS_LIMIT = "pids-limit"
    FD_LEAK = "fd-leak"
    THREAD_LEAK = "thread-leak"
    PROCESS_LEAK = "process-leak"
    FILE_LEAK = "file-leak"
    IPC_LEAK = "ipc-leak"
    TMPFS_FULL = "tmpfs-full"
    DISK_WRITE = "disk-write"
    OUTPUT_FLOOD = "output-flood"
    OBJECT_LEAK = "object-leak"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken budget. A test may pass and still have some."""

    kind: ViolationKind
    severity: Severity
    measured: float
    limit: float
    unit: str
    """bytes, seconds, count or ratio."""
    message: str
    """One sentence for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of one test in one container: what `execute` returns."""

    id: str
    """UUID; the database's key."""
    assignment: Assignment
    outcome: Outcome
    message: str
    """Why, in one line; empty for a pass."""
    exit_code: int | None
    signal: int | None
    evidence: Evidence
    violations: tuple[Violation, ...] = ()
    cases: tuple[CaseResult, ...] = ()
    witnesses: int = 2
    folder: Path | None = None
    """Where stdout, stderr, metrics.json and outputs/ are. None: it passed in silence."""
    absent: bool = False
    """The case that was asked for does not exist: nothing ran, and nothing is recorded of it."""


class Verb(StrEnum):
    """The word in front of a finished test's line."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    FLAKY = "FLAKY"
    SLOW = "SLOW"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    CRASH = "CRASH"
    LEAK = "LEAK"
    UNDERSIZED = "UNDERSIZED"
    RUNAWAY = "RUNAWAY"
    INFRA = "INFRA"
    SKIP = "SKIP"
    STOPPED = "STOPPED"


def counting(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """The attempts without a failure in a reused slot, or for want of CPUs, that was tried again: what came of
    that counts in its place, and only that.
    """
    if len(attempts) > 1 and any(a.evidence.inconclusive for a in attempts):
        first = attempts[:-1]
        return (*(a for a in first if not (a.outcome in FAILING and a.evidence.inconclusive)), attempts[-1])
    return attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """The final word on one test of a run: its attempts, in order, and what they add up to."""

    __test__ = False

    attempts: tuple[Attempt, ...]
    outcome: Outcome
    verb: Verb
    flaky: bool = False
    """Failed at least once and passed at least once."""

    @property
    def final(self) -> Attempt:
        """The attempt that decided: the last one that passed or failed, else the last one. A retry that was
        interrupted, skipped or lost to the engine says nothing about the test; a failure in a reused slot that
        was tried again does not count.
        """
        if len(self.attempts) == 1:
            return self.attempts[0]
        silent = (Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED)
        return next((a for a in reversed(counting(self.attempts)) if a.outcome not in silent), self.attempts[-1])

    @property
    def overruled(self) -> Attempt | None:
        """The failure that did not count, because the test was tried again: in a fresh slot where it had failed
        in a reused one, alone where others had had the CPUs.
        """
        return next((a for a in self.attempts if not any(a is one for one in counting(self.attempts))), None)

    @property
    def test(self) -> Test:
        """The test concerned."""
        return self.attempts[-1].assignment.test

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Violations of the deciding attempt."""
        return self.final.violations


# ---------------------------------------------------------------- the run


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """The engine as it described itself."""

    name: str
    """docker or podman."""
    version: str
    api_version: str
    address: str
    local: bool
    """The engine shares this machine's files and kernel."""
    cgroup_version: int | None
    cgroup_driver: str | None
    rootless: bool
    cpus: int
    memory_bytes: int
    kernel: str
    operating_system: str
    architecture: str
    storage_driver: str = ""
    memory_limit: bool = True
    cpu_limit: bool = True
    pids_limit: bool = True
    swap_limit: bool = True
    """False: the engine drops a limit of memory and swap together, and says so in `warnings`."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The machine orch runs on."""

    id: str
    """A digest of the machine id: tells machines apart without naming them."""
    cpus: float
    """CPUs this process is granted (affinity and cgroup quota), not those built in."""
    memory_bytes: int
    """Memory this process is granted."""
    kernel: str
    python: str
    load: float | None = None
    """Processes that ran or waited for a CPU when the run began: mean of a minute, all users' and containers'."""
    nofile: int = 1 << 20
    """Open files that a process can be allowed at most; an engine on this machine can grant no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of `orch run`."""

    id: str
    """UUID; its first 8 digits are what users read and type."""
    started_at: datetime
    argv: tuple[str, ...]
    project: str
    """Name of its folder."""
    project_id: str
    """What the database tells the project by."""
    config_digest: str
    orch_version: str
    engine: EngineInfo
    host: HostInfo
    images: Mapping[str, str] = field(default_factory=dict)
    """Image name -> pinned ID."""
    revision: str | None = None
    branch: str | None = None
    dirty: bool | None = None

    @property
    def short_id(self) -> str:
        """The first 8 digits."""
        return self.id[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the run was expected to create, what it created, and what is left of it."""

    expected_containers: int = 0
    created_containers: int = 0
    removed_containers: int = 0
    left: tuple[str, ...] = ()
    """Kind and name of each object that is still there."""
    unexpected: tuple[str, ...] = ()
    """Objects that appeared without being asked for, with the test they belong to."""


class RunStatus(StrEnum):
    """How far a run came."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

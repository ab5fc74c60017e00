"""Find the violations of a test that left resources behind or whose use grew to its end. Pure computation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.outcomes import Outcome
from orchestrator.model.violations import Severity, Violation, ViolationKind
from orchestrator.text import format_ratio, listed, plural, seconds_text, size_text, two_sizes
from orchestrator.verdict.trend import MIN_POINTS, steady_growth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.model.evidence import AgentRecord, Evidence, LeftoverFiles
    from orchestrator.model.profiles import Profile
    from orchestrator.model.usage import Sample

TMP = "/tmp"  # noqa: S108 - inside the container, a tmpfs of its own
SHM = "/dev/shm"  # noqa: S108 - inside the container, a tmpfs of its own
_PYTEST_FOLDER = "pytest-of-"
"""Prefix of the folder in which pytest keeps the folders of its `tmp_path` fixture for inspection."""
_DEATH_SECONDS = 0.15
"""Time before the reported end in which the test may have ended already, because the agent waits for leftovers."""
_IPC_NAMES = {
    "shm": "shared memory segment",
    "sem": "semaphore set",
    "msg": "message queue",
    "mqueue": "message queue",
}


def leaks(evidence: Evidence, profile: Profile, outcome: Outcome) -> Iterator[Violation]:
    """Yield violations for steady growth and for leftover processes, files and IPC objects.

    A test that was killed could not clean up, so what it left is not counted: nothing after a timeout, only
    processes after an OOM kill or a crash.
    """
    yield from _growth(evidence, profile)
    agent = evidence.agent
    if agent is None or outcome is Outcome.TIMEOUT or evidence.timed_out:
        return
    yield from _processes(agent)
    if outcome not in {Outcome.OOM, Outcome.CRASHED}:
        yield from _files(agent, profile)
        yield from _ipc(agent)


def leaked_objects(evidence: Evidence) -> Iterator[Violation]:
    """Yield a violation for leftover containers, volumes and networks, whatever the outcome of the test."""
    if evidence.leaked_objects:
        count = len(evidence.leaked_objects)
        yield _count(
            ViolationKind.OBJECT_LEAK,
            Severity.ERROR,
            count,
            f"left {plural(count, 'engine object')}: {listed(evidence.leaked_objects)}",
        )


def _growth(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    """Yield violations for open files, threads and memory that grew steadily to the end."""
    if len(evidence.samples) < MIN_POINTS:
        return
    thresholds, limits = profile.thresholds, profile.limits
    for kind, what, minimum, figure in (
        (
            ViolationKind.FD_LEAK,
            f"open files of one process (its limit: {limits.nofile})",
            thresholds.open_files_growth,
            lambda sample: sample.process_open_files_max,
        ),
        (
            ViolationKind.THREAD_LEAK,
            f"threads of one process (limit of tasks: {limits.pids})",
            thresholds.threads_growth,
            lambda sample: sample.process_threads_max,
        ),
    ):
        trend = None if minimum is None else steady_growth(_points(evidence, figure), minimum=minimum)
        if minimum is not None and trend is not None:
            yield _count(
                kind,
                Severity.WARNING,
                trend.growth,
                f"{what} grew steadily to the end: from {trend.first:.0f} to {trend.last:.0f} in the last "
                f"{seconds_text(trend.seconds)}, {trend.per_second:.3g} per second",
                minimum,
            )
    yield from _memory_growth(evidence, profile)


def _memory_growth(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    ratio, limit = profile.thresholds.memory_growth_ratio, profile.limits.memory_bytes
    if ratio is None:
        return
    trend = steady_growth(_points(evidence, lambda sample: sample.anon_bytes), minimum=ratio * limit)
    if trend is not None:
        left = max(0.0, limit - trend.last) / trend.per_second
        yield Violation(
            kind=ViolationKind.MEMORY_GROWTH,
            severity=Severity.NOTICE,
            measured=trend.growth,
            limit=ratio * limit,
            unit="bytes",
            message=f"anonymous memory grew steadily to the end: from {size_text(trend.first)} to "
            f"{size_text(trend.last)} in the last {seconds_text(trend.seconds)}; at that rate it reaches its "
            f"limit of {size_text(limit)} after another {seconds_text(left)}",
        )


def _points(evidence: Evidence, figure: Callable[[Sample], int | None]) -> list[tuple[float, float]]:
    """Return a figure over the test's time, without the last moments in which the test may have ended.

    Time in which other processes used the CPUs is not counted: a test of 50 ms that takes half a second on a busy
    machine has not grown for half a second.
    """
    seconds = evidence.timings.test_seconds
    end, share = seconds - _DEATH_SECONDS, evidence.counted_seconds / seconds if seconds > 0 else 1.0
    samples = (sample for sample in evidence.samples if sample.at_seconds <= end)
    seen = ((sample.at_seconds * share, figure(sample)) for sample in samples)
    return [(at, float(value)) for at, value in seen if value]


def _processes(agent: AgentRecord) -> Iterator[Violation]:
    if agent.leftovers:
        lines = [f"{leftover.command_line or '(no name)'} (pid {leftover.pid})" for leftover in agent.leftovers]
        processes = plural(len(lines), "process", "processes")
        yield _count(
            ViolationKind.PROCESS_LEAK, Severity.WARNING, len(lines), f"left {processes} running: {listed(lines)}"
        )


def _files(agent: AgentRecord, profile: Profile) -> Iterator[Violation]:
    """Yield a violation if more files, or more bytes, were left in /tmp than the thresholds allow."""
    thresholds = profile.thresholds
    left = next((place for place in agent.places if place.place == TMP), None)
    if left is None or _is_pytests_own(left):
        return
    size = "" if left.used_bytes is None else f", {size_text(left.used_bytes)} in all"
    message = f"left {plural(left.entries, 'entry', 'entries')} in {TMP}{size}: {listed(left.names, left.entries)}"
    too_many, too_much = thresholds.files_left, thresholds.files_left_bytes
    if too_many is not None and left.entries > too_many:
        yield _count(ViolationKind.FILE_LEAK, Severity.NOTICE, left.entries, message, too_many)
    elif too_much is not None and left.used_bytes is not None and left.used_bytes > too_much:
        yield Violation(
            kind=ViolationKind.FILE_LEAK,
            severity=Severity.NOTICE,
            measured=left.used_bytes,
            limit=too_much,
            unit="bytes",
            message=message,
        )


def _is_pytests_own(left: LeftoverFiles) -> bool:
    return left.entries == len(left.names) and all(name.startswith(_PYTEST_FOLDER) for name in left.names)


def _ipc(agent: AgentRecord) -> Iterator[Violation]:
    """Yield a violation for IPC objects and shared memory, which outlive the processes that created them."""
    found = [
        f"{_IPC_NAMES.get(left.kind, left.kind)} {left.name}"
        + (f" ({size_text(left.amount)})" if left.kind == "shm" and left.amount is not None else "")
        for left in agent.ipc
    ]
    total = len(found)
    for place in agent.places:
        if place.place == SHM:
            found += [f"{SHM}/{name}" for name in place.names]
            total += place.entries
    if total:
        objects = plural(total, "shared memory or IPC object")
        yield _count(ViolationKind.IPC_LEAK, Severity.WARNING, total, f"left {objects}: {listed(found, total)}")


def full_places(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    """Yield violations for writable places that were full, or nearly, at the test's end.

    A place that was full only before the end shows in the peak of shared memory, which does not say which place it
    was; this gives at most a notice.
    """
    near = profile.thresholds.tmpfs_near_ratio
    if near is None:
        return
    seen = False
    for left in evidence.agent.places if evidence.agent else ():
        for used, size, texts in (
            (left.used_bytes, left.size_bytes, two_sizes),
            (left.used_inodes, left.size_inodes, lambda *counts: [f"{count:.0f} files" for count in counts]),
        ):
            if used is None or not size or used < near * size:
                continue
            seen = True
            full = used >= size
            state = "is full and refuses further writes" if full else f"is {format_ratio(used / size)} full"
            yield Violation(
                kind=ViolationKind.TMPFS_FULL,
                severity=Severity.ERROR if full else Severity.WARNING,
                measured=used,
                limit=size,
                unit="bytes" if texts is two_sizes else "count",
                message=f"{left.place} {state} at the test's end: {' of '.join(texts(used, size))}",
            )
    peak, limits = evidence.usage.shmem_peak_bytes, profile.limits
    size = limits.tmpfs_bytes
    room = size + limits.shm_bytes + limits.outputs_bytes
    if not seen and peak is not None and near * size <= peak <= room:  # a higher peak is not caused by files alone
        yield Violation(
            kind=ViolationKind.TMPFS_FULL,
            severity=Severity.NOTICE,
            measured=peak,
            limit=size,
            unit="bytes",
            message=f"files in memory and shared memory reached {size_text(peak)} together, and {TMP} holds "
            f"{size_text(size)}: it may have been full for some time",
        )


def _count(kind: ViolationKind, severity: Severity, measured: float, message: str, limit: float = 0) -> Violation:
    return Violation(kind=kind, severity=severity, measured=measured, limit=limit, unit="count", message=message)

"""Measures tests that share a container, by what its own cgroup counted between two snapshots.

The agent reads CPU time and memory when nothing of a test lives any more. The snapshots are taken from outside,
from descriptors that stay open (1.3 µs a file where opening it costs 10), right after that; each sets the memory
peak back. By then the next test may have begun, and mostly has: `SnapshotWindow` says what that means for a peak.
Between the agent's two readings lies the agent's own work too, which a test that does nothing shows, and which is
subtracted like other overheads (`calibration`).
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING

from orchestrator.measure.counters import NANOSECONDS, Counters, parse_agent, parse_kinds, parse_v1, parse_v2
from orchestrator.measure.figures import (
    COUNTED,
    IO,
    KINDS,
    MEMORY_CHARGED,
    MEMORY_FLOOR,
    MEMORY_PEAK,
    NO_IO_REASON,
    PAGE_CACHE,
    make_usage,
    shared_reasons,
    shared_sources,
)
from orchestrator.measure.own_memory import cache_of, own_memory
from orchestrator.measure.peak_reset import ResettablePeak
from orchestrator.model.usage import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.measure.cgroups import CgroupPaths
    from orchestrator.model.usage import Sample

    _Keep = Callable[[str, float | None], None]

AGENT_FILES_V1 = (
    "/sys/fs/cgroup/cpuacct/cpuacct.usage",
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",
)
AGENT_FILES_V2 = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/memory.current")
"""All files that the agent reads after each test. v2's memory.peak would be that of the container's whole life."""
_FILES = {
    1: (
        "cpuacct.usage_user",
        "cpuacct.usage_sys",
        "cpu.stat",
        "memory.oom_control",
        "pids.peak",
        "pids.events",
        "blkio.throttle.io_service_bytes_recursive",
        "memory.stat",
    ),
    2: ("cpu.stat", "memory.current", "memory.events", "pids.peak", "pids.events", "io.stat", "memory.stat"),
}
_LINES_V1 = ("cpu.stat", "memory.oom_control", "pids.events", "blkio.throttle.io_service_bytes_recursive")
_READ_BYTES = 8192


@dataclass(frozen=True, slots=True)
class CounterSnapshot:
    """The counters when one test had ended, read from outside."""

    counters: Counters
    peak_bytes: int | None
    """The memory peak since the previous snapshot."""
    peak_is_shared: bool = False
    """True if the agent reads that peak too (cgroup v1), and not the peak of the container's whole life."""
    at: float = field(default_factory=monotonic)
    """The monotonic time at which the peak had been reset."""


class SnapshotReader:
    """Takes the snapshots of one container. None of its methods raises once the container is gone."""

    def __init__(self, paths: CgroupPaths, peak: ResettablePeak) -> None:
        """Open the files of a cgroup; `peak` is closed with this reader."""
        self._version = paths.version
        self._peak = peak
        self._parsed: tuple[tuple[str | None, ...], Counters] | None = None
        self._descriptors: dict[str, int] = {}
        known = dict(paths.files)
        for name in _FILES[paths.version]:
            if name in known:
                with suppress(OSError):
                    self._descriptors[name] = os.open(known[name], os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def start(cls, paths: CgroupPaths) -> SnapshotReader | None:
        """Return a reader for the cgroup; None if this user or this kernel cannot reset its memory peak."""
        peak = ResettablePeak.start(paths)
        return None if peak is None else cls(paths, peak)

    def snapshot(self) -> CounterSnapshot:
        """Read all counters, then reset the peak."""
        files = {name: self._read(descriptor) for name, descriptor in self._descriptors.items()}
        counters = parse_v2(files) if self._version == 2 else self._parse_v1(files)
        peak_bytes = self._peak.read()
        self._peak.reset()
        return CounterSnapshot(counters, peak_bytes, self._peak.shared)

    def _parse_v1(self, files: Mapping[str, str]) -> Counters:
        """Parse v1 files like `parse_v1`, but those with several lines only when they have changed."""
        lines = tuple(files.get(name) for name in _LINES_V1)
        if self._parsed is None or self._parsed[0] != lines:
            self._parsed = lines, parse_v1(files)
        anon, file, shmem = parse_kinds(files.get("memory.stat", ""), 1)
        try:
            return replace(
                self._parsed[1],
                anon_bytes=anon,
                file_bytes=file,
                shmem_bytes=shmem,
                cpu_user_seconds=int(files["cpuacct.usage_user"]) / NANOSECONDS,
                cpu_system_seconds=int(files["cpuacct.usage_sys"]) / NANOSECONDS,
                pids_peak=int(files["pids.peak"]),
            )
        except (KeyError, ValueError):  # a kernel without one of them, or the container is gone
            return parse_v1(files)

    @staticmethod
    def _read(descriptor: int) -> str:
        try:
            return os.pread(descriptor, _READ_BYTES, 0).decode("ascii", "replace")
        except OSError:  # ENODEV: the container is gone
            return ""

    def close(self) -> None:
        """Close the descriptors. May be called twice."""
        self._peak.close()
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


@dataclass(frozen=True, slots=True)
class SnapshotWindow:
    """The readings before and after a test, by the agent and by snapshots, to measure it between two others."""

    agent_before: Counters
    agent_after: Counters
    before: CounterSnapshot
    after: CounterSnapshot
    overlapped: bool = False
    """True if it may have begun before the snapshot `before` was taken. What it had allocated and freed by then is
    known if that was more than the previous test had needed.
    """
    seconds: float = math.inf
    """The time from that snapshot to the end of the test."""
    next_released: bool = False
    """True if the next test may have begun before the snapshot `after` was taken."""
    ended_others: bool = False
    """True if the process that it was forked from may have ended with it, so that its memory was freed."""

    @property
    def peak_by_agent(self) -> int | None:
        """The peak that the agent read, if it was reset before the test; else None."""
        return self.agent_after.memory_peak_bytes if self.after.peak_is_shared else None

    def charged_peak(self) -> tuple[int | None, int | None]:
        """Return the most memory charged while it ran, in bytes, and how much of that is surely its own.

        The latter is less if the peak may be that of the test before or after it.
        """
        own = self.peak_by_agent
        if own is None:
            return self._peak_from_outside()
        earlier, early = self.agent_before.memory_peak_bytes, self.before.peak_bytes
        if not self.overlapped or earlier is None or early is None:
            return own, own
        if max(own, early) > earlier:  # it rose after the agent had read it: that was this test
            return max(own, early), max(own, early)
        since = self.after.peak_bytes or 0
        if self._late:
            return earlier, min(own, since)
        # the same as before it, and not reached since it was set back: read before that, and the other one's
        return own, since if own == earlier and since < own else own

    @property
    def floor_bytes(self) -> int | None:
        """The memory charged when it began, without what the previous test freed only while this one ran."""
        now = self.agent_before.memory_bytes
        if self.ended_others:
            return now
        before, after = (
            self._unreclaimable(self.agent_before, self.before),
            self._unreclaimable(self.agent_after, self.after),
        )
        if now is None or before is None or after is None:
            return now
        return now - max(0, before - after)

    @staticmethod
    def _unreclaimable(read: Counters, look: CounterSnapshot) -> int | None:
        cache = cache_of(look.counters)
        return None if read.memory_bytes is None or cache is None else read.memory_bytes - cache

    @property
    def _late(self) -> bool:
        """True if much of it had run when the peak was reset: its CPU time exceeds the time after that."""
        cpu = _growth(self.agent_before.cpu_seconds, self.agent_after.cpu_seconds)
        return self.overlapped and (cpu is None or self.seconds < _LATE_SHARE * cpu)

    def _peak_from_outside(self) -> tuple[int | None, int | None]:
        """Return the same as `charged_peak` where the agent cannot read the reset peak (cgroup v2)."""
        own, early = self.after.peak_bytes, self.before.peak_bytes
        if own is None:
            return None, None
        if self._late and early is not None:
            return max(own, early), own if own < early else 0
        now = self.after.counters.memory_bytes
        # what is charged now is the next test's, and may be what the peak is of
        return own, 0 if self.next_released and now is not None and own - now < _NEAR_BYTES else own


_LATE_SHARE = 0.5
"""The share of a test's CPU time that must not fit into the time since the snapshot for it to count as late.

On one CPU a test cannot use more CPU time than has passed: what does not fit was used before the snapshot. The
agent's own work is in that CPU time too, so a share near 0 would call the snapshot of any very short test late.
"""
_NEAR_BYTES = 64 * 4096
"""The batches in which a few CPUs charge memory: the kernel charges 64 pages at once on each CPU."""


def agent_counters(text: str) -> Counters:
    """Return the counters that the agent read after a test.

    On v1, they are three files with one number each, for which `parse_agent` would be slow.
    """
    lines = text.strip().split("\n")
    if tuple(lines[::2]) == _AGENT_HEADS_V1 and all(line.isascii() and line.isdigit() for line in lines[1::2]):
        cpu, peak, now = (int(line) for line in lines[1::2])
        return Counters(cpu_seconds=cpu / NANOSECONDS, memory_peak_bytes=peak, memory_bytes=now)
    return parse_agent(text)


NOT_READ = Counters()
"""The counters of an agent that has read nothing."""
_AGENT_HEADS_V1 = tuple(f"@{path}" for path in AGENT_FILES_V1)
_NO_SAMPLE_REASON = "the test was over before a sample was due"
_DEFAULT_REASON = "the container's cgroup could not be read"
_REASONS = (
    *((name, _NO_SAMPLE_REASON) for name in KINDS),
    *((name, NO_IO_REASON) for name in IO),
    ("swap_peak_bytes", "no peak of swap can be told apart in a reused container"),
)
_BY_AGENT = frozenset({"cpu_seconds", MEMORY_FLOOR})
"""Figures that the agent reads, beside the memory peak where it can read that."""


def window_usage(window: SnapshotWindow, samples: Sequence[Sample]) -> Usage:
    """Return what the test used, by the window and its samples."""
    first, last = window.before.counters, window.after.counters
    figures: dict[str, float] = {}

    def keep(name: str, value: float | None) -> None:
        if value is not None and value >= 0:
            figures[name] = value

    for name in COUNTED:
        keep(name, _growth(getattr(first, name), getattr(last, name)))
    _keep_cpu(keep, first, last, _growth(window.agent_before.cpu_seconds, window.agent_after.cpu_seconds))
    peak, surely = window.charged_peak()
    own = None
    floor = window.floor_bytes
    if peak is not None:
        own = own_memory(
            floor_bytes=floor, peak=peak, peak_at_least=surely, before=first, after=last, samples=samples
        )
        keep(MEMORY_PEAK, own.memory_bytes)
        keep(PAGE_CACHE, own.cache_bytes)
    keep(MEMORY_CHARGED, peak)
    keep("pids_peak", last.pids_peak)
    keep(MEMORY_FLOOR, floor if floor is None or peak is None else min(floor, peak))
    for name, kind in KINDS.items() if samples else ():
        seen = [v for s in samples if s.anon_bytes and (v := getattr(s, kind)) is not None]
        keep(name, max(seen, default=None))
    # pids.peak cannot be set back: it is this test's only if it rose
    bounds: tuple[str, ...] = ()
    if last.pids_peak is not None and last.pids_peak <= (first.pids_peak or 0):
        bounds = ("pids_peak",)
    if own is not None and own.at_most:
        bounds = (MEMORY_PEAK, *bounds)
    sources, missing = _origins(tuple(figures), window.peak_by_agent is not None)
    return make_usage(
        figures,
        sources=sources,
        missing=missing,
        upper_bounds=bounds,
        lower_bound=own is not None and own.at_least,
    )


def _keep_cpu(keep: _Keep, first: Counters, last: Counters, total: float | None) -> None:
    """Keep the agent's total, and divide it between user and system in the ratio of the kernel's two figures.

    These cover a little more than the total.
    """
    user = _growth(first.cpu_user_seconds, last.cpu_user_seconds)
    system = _growth(first.cpu_system_seconds, last.cpu_system_seconds)
    if total is None:
        return
    keep("cpu_seconds", total)
    if user is not None and system is not None and user + system > 0:
        keep("cpu_user_seconds", total * user / (user + system))
        keep("cpu_system_seconds", total * system / (user + system))


def _growth(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


@lru_cache(maxsize=256)
def _origins(names: tuple[str, ...], peak_by_agent: bool) -> tuple[Mapping[str, Source], Mapping[str, str]]:
    """Return the sources of these figures, and why the others are missing; the caller must not change them."""
    by_agent = _BY_AGENT | {MEMORY_PEAK, MEMORY_CHARGED} if peak_by_agent else _BY_AGENT
    sources = tuple((name, Source.AGENT if name in by_agent else Source.KERNEL) for name in names)
    return shared_sources(sources), shared_reasons(names, _REASONS, _DEFAULT_REASON)

"""Reads one cgroup repeatedly, ten times a second for 64 slots.

Measured: opening a cgroup file costs 10 µs, reading an open one 1.2 to 1.5 µs, but `memory.stat` 9 µs. So files
stay open, and the expensive ones are read at growing intervals, in the end every `DETAIL_EVERY`th time (40 µs for
all of them, parsed). The readings in between (4 µs for three files) are tuples until they are made a `Sample`.
"""

from __future__ import annotations

import os
import resource
import threading
from typing import TYPE_CHECKING

from orchestrator.measure.cgroups import read_text
from orchestrator.measure.counters import MICROSECONDS, NANOSECONDS, Counters, parse_v1, parse_v2

if TYPE_CHECKING:
    from orchestrator.measure.cgroups import CgroupPaths

DETAIL_EVERY = 10
DETAIL_SHARE = 8
"""A complete reading is due after an eighth as many readings as there were. So all of the first 15 are complete,
because most tests are short, and a trend can be seen in a test of 2 s.
"""
_READ_BYTES = 8192
_QUICK_BYTES = 64
_USAGE_USEC = b"usage_usec "
_CPU = {1: "cpuacct.usage", 2: "cpu.stat"}
_MEMORY = {1: "memory.usage_in_bytes", 2: "memory.current"}


class _Allowance:
    """Limits the descriptors that all readers keep open to a quarter of this process's limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = 0

    def take(self) -> bool:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        with self._lock:
            if limit != resource.RLIM_INFINITY and self._kept >= limit // 4:
                return False
            self._kept += 1
            return True

    def give(self, count: int) -> None:
        with self._lock:
            self._kept -= count


_ALLOWANCE = _Allowance()


QuickReading = tuple[float | None, int | None, int | None]
"""CPU seconds, memory in bytes and pids. Most readings are such a tuple, because a `Counters` costs as much as two
of the three files.
"""


class SeriesReader:
    """A reader for `Sampler.add`; the sampler closes it. Calls must not overlap.

    Without a descriptor to keep (a low `ulimit -n`) it opens and closes each file each time.
    """

    def __init__(self, paths: CgroupPaths) -> None:
        self._paths = paths
        self._open: dict[str, int] = {}
        self._calls = 0
        self._detail_at = 1
        self._path_of = dict(paths.series_files)
        self._quick_files = (_CPU[paths.version], _MEMORY[paths.version], "pids.current")
        self._descriptors: tuple[int, int, int] | None = None
        self._keyed_cpu = paths.version == 2

    def __call__(self) -> Counters:
        """Read the cgroup like `point`, and return the reading as `Counters`."""
        point = self.point()
        if isinstance(point, Counters):
            return point
        cpu_seconds, memory_bytes, pids = point
        return Counters(cpu_seconds=cpu_seconds, memory_bytes=memory_bytes, pids=pids)

    def point(self) -> Counters | QuickReading:
        """Return a complete reading at first and then at growing intervals, else CPU, memory and pids only."""
        self._calls += 1
        if self._calls >= self._detail_at:
            self._detail_at = self._calls + min(max(self._calls // DETAIL_SHARE, 1), DETAIL_EVERY)
            return self._complete()
        if self._descriptors is not None:
            try:
                return self._quickest(*self._descriptors)
            except (OSError, ValueError):  # going, or not what it should be: file by file then
                pass
        return self._quick()

    def _quickest(self, cpu: int, memory: int, pids: int) -> QuickReading:
        text = os.pread(cpu, _QUICK_BYTES, 0)
        if self._keyed_cpu:  # its first line is `usage_usec N`
            cpu_seconds = int(text[len(_USAGE_USEC) : text.index(b"\n")]) / MICROSECONDS
        else:
            cpu_seconds = int(text) / NANOSECONDS
        return cpu_seconds, int(os.pread(memory, _QUICK_BYTES, 0)), int(os.pread(pids, _QUICK_BYTES, 0))

    def _complete(self) -> Counters:
        files = {name: text.decode("ascii", "replace") for name in self._path_of if (text := self._read(name))}
        if "io.stat" in self._path_of:  # empty is a measured zero there
            files.setdefault("io.stat", "")
        if not any(files.values()):
            return Counters()
        if self._descriptors is None and all(name in self._open for name in self._quick_files):
            cpu, memory, pids = self._quick_files
            self._descriptors = (self._open[cpu], self._open[memory], self._open[pids])
        return parse_v2(files) if self._paths.version == 2 else parse_v1(files)

    def close(self) -> None:
        """Close the descriptors. May be called twice."""
        self._descriptors = None
        while self._open:
            os.close(self._open.popitem()[1])
            _ALLOWANCE.give(1)

    def _quick(self) -> QuickReading:
        """Read each of the three files on its own; a figure that cannot be read is None."""
        cpu, memory, pids = (self._read(name) for name in self._quick_files)
        if not self._keyed_cpu:
            return _number(cpu, NANOSECONDS), _whole(memory), _whole(pids)
        line = cpu.partition(b"\n")[0]
        found = line.startswith(_USAGE_USEC)
        cpu_seconds = _number(line[len(_USAGE_USEC) :], MICROSECONDS) if found else None
        return cpu_seconds, _whole(memory), _whole(pids)

    def _read(self, name: str) -> bytes:
        """Return the content of a file; empty if it cannot be read (ENODEV: the cgroup is gone)."""
        descriptor = self._open.get(name)
        if descriptor is None:
            path = self._path_of.get(name)
            if path is None:
                return b""
            if not _ALLOWANCE.take():
                return (read_text(path) or "").encode()
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                _ALLOWANCE.give(1)
                return b""
            self._open[name] = descriptor
        try:
            return os.pread(descriptor, _READ_BYTES, 0)
        except OSError:
            return b""


def _number(text: bytes, per_second: int) -> float | None:
    return int(text) / per_second if text.strip().isdigit() else None


def _whole(text: bytes) -> int | None:
    return int(text) if text.strip().isdigit() else None

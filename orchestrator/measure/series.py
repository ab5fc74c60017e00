"""Reads one cgroup again and again, ten times a second for 64 slots, at 1 to 2 % of a core.

Measured: opening a cgroup file costs 10 µs, reading an open one 1.5 µs, `memory.stat` 10 µs even then. So
files stay open, and the dear ones are read ever more seldom, in the end every `DETAIL_EVERY`th time.
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
"""A complete reading is due after an eighth as many readings as there were: all of the first 15, because most
tests are short, and enough to see a trend in a test of 2 s.
"""
_READ_BYTES = 8192
_USAGE_USEC = b"usage_usec "
_CPU = {1: "cpuacct.usage", 2: "cpu.stat"}
_MEMORY = {1: "memory.usage_in_bytes", 2: "memory.current"}


class _Allowance:
    """How many descriptors all readers together may keep: a quarter of what this process may open."""

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


class SeriesReader:
    """A callable for `Sampler.add`; the sampler closes it. Calls must not overlap.

    Without a descriptor to keep (a low `ulimit -n`) it opens and closes each file each time.
    """

    def __init__(self, paths: CgroupPaths) -> None:
        self._paths = paths
        self._open: dict[str, int] = {}
        self._calls = 0
        self._detail_at = 1
        self._path_of = dict(paths.series_files)
        self._cpu, self._memory = _CPU[paths.version], _MEMORY[paths.version]

    def __call__(self) -> Counters:
        """A complete reading the first times and at every tenth in the end, else CPU, memory and pids alone."""
        self._calls += 1
        if self._calls < self._detail_at:
            return self._quick()
        self._detail_at = self._calls + min(max(self._calls // DETAIL_SHARE, 1), DETAIL_EVERY)
        files = {name: text.decode("ascii", "replace") for name in self._path_of if (text := self._read(name))}
        if "io.stat" in self._path_of:  # empty is a measured zero there
            files.setdefault("io.stat", "")
        if not any(files.values()):
            return Counters()
        return parse_v2(files) if self._paths.version == 2 else parse_v1(files)

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        while self._open:
            os.close(self._open.popitem()[1])
            _ALLOWANCE.give(1)

    def _quick(self) -> Counters:
        cpu = self._read(self._cpu)
        if self._paths.version == 1:
            cpu_seconds = _number(cpu, NANOSECONDS)
        else:  # its first line is `usage_usec N`
            line = cpu.partition(b"\n")[0]
            found = line.startswith(_USAGE_USEC)
            cpu_seconds = _number(line[len(_USAGE_USEC) :], MICROSECONDS) if found else None
        memory, pids = self._read(self._memory), self._read("pids.current")
        return Counters(
            cpu_seconds=cpu_seconds,
            memory_bytes=int(memory) if memory.strip().isdigit() else None,
            pids=int(pids) if pids.strip().isdigit() else None,
        )

    def _read(self, name: str) -> bytes:
        """Content of a file; empty if it cannot be read (ENODEV: the cgroup is gone)."""
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

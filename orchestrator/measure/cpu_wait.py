"""Measures how long a test could not run because others used the CPUs.

The kernel's pressure (`some` of the cgroup's cpu.pressure) is the time for which some task of the test was ready
to run and did not. It includes the time in which the test's CPU quota throttled it, which is subtracted, and the
time for which the test's own tasks waited for each other. A test that got all CPUs that it may use has waited for
nobody else, so the result is at most the time that is left beside the CPU time that the test got.
docs/design/measure/busy-machines.md has what was measured.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.measure.cgroups import process_ids, read_text
from orchestrator.measure.counters import NANOSECONDS, parse_v1, parse_v2, pressure_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.measure.cgroups import CgroupPaths

STARVED_SHARE = 0.9
"""A test that timed out before it had run for this share of its limit, waiting not counted, was starved."""
BUSY_RATIO = 0.9
"""The share of CPU time that is not idle, from which the machine counts as busy."""
_KEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HostCpus:
    """Totals of all CPUs, in the kernel's ticks; all 0 if they are unknown."""

    total: int = 0
    idle: int = 0
    stolen: int = 0
    """Time taken by the hypervisor, in which a running task gets nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CpuCounters:
    """Counters at one moment; None stands for unknown."""

    at: float
    cpu_seconds: float | None = None
    throttled_seconds: float | None = None
    pressure_seconds: float | None = None
    tasks: Mapping[int, float] = field(default_factory=dict)
    """Thread -> seconds that it has waited for a CPU; filled if the kernel accounts no pressure."""
    host: HostCpus


def host_cpus(text: str) -> HostCpus:
    """Return the totals from the text of /proc/stat."""
    words = text.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:9]):
        return HostCpus()
    ticks = [int(word) for word in words[1:9]]
    return HostCpus(sum(ticks), ticks[3] + ticks[4], ticks[7])


class _Host:
    """The machine's counters, read at most once a second, because that takes 1 ms on a large machine."""

    def __init__(self) -> None:
        self._read_at = -_KEEP_SECONDS
        self._known = HostCpus()

    def now(self) -> HostCpus:
        at = time.monotonic()
        if at - self._read_at >= _KEEP_SECONDS:
            self._known, self._read_at = host_cpus(read_text("/proc/stat") or ""), at
        return self._known


_HOST = _Host()


class CpuWait:
    """The time that one test waits for CPUs, from the creation of this object on."""

    def __init__(
        self,
        own: CgroupPaths,
        above: CgroupPaths | None,
        *,
        cpus: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to measure in the container's cgroup `own`, and in one `above` it that outlives the container.

        `cpus` is how many CPUs the test can use at once, by its quota and the machine.
        """
        self._own, self._cpus, self._clock = own, cpus, clock
        self._counters = _files(own, "cpuacct.usage", "cpu.stat")
        self._pressure = next(iter([*(_pressure_files(above) if above else ()), *_pressure_files(own)]), None)
        self._known = 0.0
        self._runnable = False
        self._first = self._last = self._read()

    @property
    def exact(self) -> bool:
        """True if the kernel accounts the waiting of the whole cgroup, also of tasks that have ended."""
        return self._first.pressure_seconds is not None

    def seconds(self) -> float:
        """Return the seconds waited up to now."""
        first, last = self._first, self._read()
        self._last = last
        waited = _growth(first.pressure_seconds, last.pressure_seconds)
        if waited is None:
            waited = sum(delay - first.tasks.get(task, 0.0) for task, delay in last.tasks.items())
        found = self._bounded(
            waited,
            seconds=last.at - first.at,
            cpu_seconds=_growth(first.cpu_seconds, last.cpu_seconds),
            throttled_seconds=_growth(first.throttled_seconds, last.throttled_seconds),
        )
        self._known = max(self._known, found)
        return self._known

    def total_seconds(
        self, *, seconds: float, cpu_seconds: float | None, throttled_seconds: float | None
    ) -> float:
        """Return the seconds waited by a test that has ended after `seconds`; its container may be gone."""
        last = pressure_seconds(read_text(self._pressure) or "") if self._pressure else None
        waited = _growth(self._first.pressure_seconds, last)
        if waited is None:
            return min(self._known, seconds)
        return self._bounded(waited, seconds=seconds, cpu_seconds=cpu_seconds, throttled_seconds=throttled_seconds)

    def starved(self, *, seconds: float, limit_seconds: float) -> bool:
        """Return whether a test that timed out after `seconds` had less CPU time than its limit allows.

        If pressure is not accounted, the waiting of tasks that have ended is unknown. Then it is enough that the
        machine was busy and the test was ready to run.
        """
        if seconds - self._known < STARVED_SHARE * limit_seconds:
            return True
        first, last = self._first, self._last
        cpu_seconds = _growth(first.cpu_seconds, last.cpu_seconds)
        if self.exact or not self._runnable or cpu_seconds is None:
            return False
        passed = last.host.total - first.host.total
        busy = passed > 0 and (last.host.idle - first.host.idle) / passed <= 1 - BUSY_RATIO
        return busy and cpu_seconds + self._known < seconds / 2

    def _bounded(
        self, waited: float, *, seconds: float, cpu_seconds: float | None, throttled_seconds: float | None
    ) -> float:
        cpu_seconds = cpu_seconds or 0.0
        waited += cpu_seconds * self._stolen()
        return max(0.0, min(waited - (throttled_seconds or 0.0), seconds - cpu_seconds / self._cpus))

    def _stolen(self) -> float:
        """Return the seconds taken by the hypervisor for each second that the machine's CPUs ran."""
        now, first = _HOST.now(), self._first.host
        ran = now.total - first.total - (now.idle - first.idle) - (now.stolen - first.stolen)
        return (now.stolen - first.stolen) / ran if ran > 0 else 0.0

    def _read(self) -> _CpuCounters:
        files = {name: read_text(path) or "" for name, path in self._counters.items()}
        counters = parse_v2(files) if self._own.version == 2 else parse_v1(files)
        pressure = pressure_seconds(read_text(self._pressure) or "") if self._pressure else None
        return _CpuCounters(
            at=self._clock(),
            cpu_seconds=counters.cpu_seconds,
            throttled_seconds=counters.throttled_seconds,
            pressure_seconds=pressure,
            tasks={} if pressure is not None else self._tasks(),
            host=_HOST.now(),
        )

    def _tasks(self) -> Mapping[int, float]:
        """Return how long each thread has waited for a CPU, in seconds, and set `_runnable`."""
        found: dict[int, float] = {}
        self._runnable = False
        for pid in process_ids(self._own):
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - a Path costs as much as the look
                    words = (read_text(f"/proc/{pid}/task/{task}/schedstat") or "").split()
                    if len(words) > 1 and words[1].isdigit():
                        found[int(task)] = int(words[1]) / NANOSECONDS
                    state = (read_text(f"/proc/{pid}/task/{task}/stat") or "").rpartition(") ")[2]
                    self._runnable = self._runnable or state.startswith("R")
        return found


def _growth(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None or last < first else last - first


def _is_hybrid(version: int, folder: str) -> bool:
    """Return whether the folder is of a v2 hierarchy beside v1's, whose files have another format."""
    return version == 1 and os.path.exists(f"{folder}/cgroup.controllers")  # noqa: PTH110 - as above


def _files(paths: CgroupPaths, *names: str) -> dict[str, str]:
    """Return the paths of a cgroup's counters by name."""
    found: dict[str, str] = {}
    for folder in map(str, paths.folders):
        if not _is_hybrid(paths.version, folder):
            for name in names:
                if os.path.exists(f"{folder}/{name}"):  # noqa: PTH110 - as above
                    found.setdefault(name, f"{folder}/{name}")
    return found


def _pressure_files(paths: CgroupPaths) -> list[str]:
    """Return the readable pressure files of a cgroup.

    On v1, they are in the v2 hierarchy beside it, where engines put their containers too. If the kernel accounts
    no pressure, the file exists but cannot be read.
    """
    candidates = [f"{folder}/cpu.pressure" for folder in paths.folders]
    return [path for path in candidates if pressure_seconds(read_text(path) or "") is not None]

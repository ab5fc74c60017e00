"""The figures of tests that share a container one after another: what its own cgroup counted between two looks.

The looks are from outside, from descriptors that stay open (1.3 µs a file where opening it costs 10), at the
moment the agent has read the CPU time and nothing of the test lives any more. The memory peak is set back at each
look, so it is the next test's own. CPU time is the agent's: between its two readings lies the agent's own work
too, which a test that does nothing shows, and which is subtracted like other overheads (`calibration`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.measure.counters import Counters, parse_v1, parse_v2
from orchestrator.measure.peaks import FreshPeak
from orchestrator.model import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.measure.cgroups import CgroupPaths
    from orchestrator.model import Sample

    _Keep = Callable[[str, float | None, Source], None]

AGENT_FILES_V1 = ("/sys/fs/cgroup/cpuacct/cpuacct.usage",)
AGENT_FILES_V2 = ("/sys/fs/cgroup/cpu.stat",)
"""All that the agent itself reads after each test."""
_FILES = {
    1: (
        "cpuacct.usage_user",
        "cpuacct.usage_sys",
        "cpu.stat",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
        "pids.peak",
        "pids.events",
        "blkio.throttle.io_service_bytes_recursive",
    ),
    2: ("cpu.stat", "memory.current", "memory.events", "pids.peak", "pids.events", "io.stat"),
}
_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Look:
    """What was counted when one test had ended and the next had not begun."""

    counters: Counters
    peak_bytes: int | None
    """Memory peak since the look before."""


class TurnReader:
    """Of one container. None of its methods raises once the container is gone."""

    def __init__(self, paths: CgroupPaths, peak: FreshPeak) -> None:
        """`peak` is closed with it."""
        self._version = paths.version
        self._peak = peak
        self._descriptors: dict[str, int] = {}
        known = dict(paths.files)
        for name in _FILES[paths.version]:
            if name in known:
                with suppress(OSError):
                    self._descriptors[name] = os.open(known[name], os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def start(cls, paths: CgroupPaths) -> TurnReader | None:
        """None: this user or this kernel cannot set a peak back."""
        peak = FreshPeak.start(paths)
        return None if peak is None else cls(paths, peak)

    def look(self) -> Look:
        """Read all, then set the peak back."""
        files = {name: self._read(descriptor) for name, descriptor in self._descriptors.items()}
        counters = parse_v2(files) if self._version == 2 else parse_v1(files)
        peak_bytes = self._peak.read()
        self._peak.reset()
        return Look(counters, peak_bytes)

    @staticmethod
    def _read(descriptor: int) -> str:
        try:
            return os.pread(descriptor, _READ_BYTES, 0).decode("ascii", "replace")
        except OSError:  # ENODEV: the container is gone
            return ""

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        self._peak.close()
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


_COUNTED = ("read_bytes", "write_bytes", "throttled_periods", "throttled_seconds", "oom_kills", "pids_limit_hits")
_KINDS = {"anon_peak_bytes": "anon_bytes", "file_peak_bytes": "file_bytes", "shmem_peak_bytes": "shmem_bytes"}
_NO_SAMPLE = "the test was over before a sample was due"
_REASONS = {
    "swap_peak_bytes": "no peak of swap can be told apart in a reused container",
    "read_bytes": "the kernel counted no I/O of this cgroup",
    "write_bytes": "the kernel counted no I/O of this cgroup",
}
_DEFAULT = "the container's cgroup could not be read"


def turn_usage(
    before: Look, after: Look, *, cpu_before: float | None, cpu_after: float | None, samples: Sequence[Sample]
) -> Usage:
    """What a test used between two looks. `cpu_before`, `cpu_after`: the agent's readings in seconds."""
    first, last = before.counters, after.counters
    figures: dict[str, float] = {}
    sources: dict[str, Source] = {}

    def keep(name: str, value: float | None, source: Source) -> None:
        if value is not None and value >= 0:
            figures[name], sources[name] = value, source

    for name in _COUNTED:
        keep(name, _growth(getattr(first, name), getattr(last, name)), Source.KERNEL)
    _keep_cpu(keep, first, last, _growth(cpu_before, cpu_after))
    keep("memory_peak_bytes", after.peak_bytes, Source.KERNEL)
    keep("pids_peak", last.pids_peak, Source.KERNEL)
    floor = first.memory_bytes
    if floor is not None and after.peak_bytes is not None:
        floor = min(floor, after.peak_bytes)
    keep("memory_floor_bytes", floor, Source.KERNEL)
    for name, kind in _KINDS.items():
        seen = [v for s in samples if s.anon_bytes and (v := getattr(s, kind)) is not None]
        keep(name, max(seen, default=None), Source.KERNEL)
    # pids.peak cannot be set back: it is this test's only if it rose
    bounds = () if last.pids_peak is None or last.pids_peak > (first.pids_peak or 0) else ("pids_peak",)
    return Usage(
        **figures,  # type: ignore[arg-type]  # the names are Usage's own, seconds float, the others int
        sources=sources,
        missing=_missing(figures),
        upper_bounds=bounds,
    )


def _keep_cpu(keep: _Keep, first: Counters, last: Counters, total: float | None) -> None:
    """The agent's total, shared between user and system as the kernel's own two figures are, which cover a little
    more.
    """
    user = _growth(first.cpu_user_seconds, last.cpu_user_seconds)
    system = _growth(first.cpu_system_seconds, last.cpu_system_seconds)
    if total is None:
        return
    keep("cpu_seconds", total, Source.AGENT)
    if user is not None and system is not None and user + system > 0:
        keep("cpu_user_seconds", total * user / (user + system), Source.KERNEL)
        keep("cpu_system_seconds", total * system / (user + system), Source.KERNEL)


def _growth(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _missing(figures: Mapping[str, float]) -> dict[str, str]:
    return {name: reason for name, reason in _ALL_MISSING.items() if name not in figures}


_ALL_MISSING = {
    **dict.fromkeys(
        (
            *_COUNTED,
            "cpu_seconds",
            "cpu_user_seconds",
            "cpu_system_seconds",
            "memory_peak_bytes",
            "memory_floor_bytes",
            "pids_peak",
        ),
        _DEFAULT,
    ),
    **dict.fromkeys(_KINDS, _NO_SAMPLE),
    **_REASONS,
}

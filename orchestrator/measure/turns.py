"""The figures of tests that share a container one after another: what its own cgroup counted between two looks.

The looks are from outside, from descriptors that stay open (1.3 µs a file where opening it costs 10), at the
moment the agent has read the CPU time and nothing of the test lives any more. The memory peak is set back at each
look, so it is the next test's own. CPU time is the agent's: between its two readings lies the agent's own work
too, which a test that does nothing shows, and which is subtracted like other overheads (`calibration`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.measure.counters import NANOSECONDS, Counters, parse_agent, parse_v1, parse_v2
from orchestrator.measure.peaks import FreshPeak
from orchestrator.model import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.measure.cgroups import CgroupPaths
    from orchestrator.model import Sample

    _Keep = Callable[[str, float | None], None]

AGENT_FILES_V1 = ("/sys/fs/cgroup/cpuacct/cpuacct.usage",)
AGENT_FILES_V2 = ("/sys/fs/cgroup/cpu.stat",)
"""All that the agent itself reads after each test."""
_FILES = {
    1: (
        "cpuacct.usage_user",
        "cpuacct.usage_sys",
        "cpu.stat",
        "memory.usage_in_bytes",
        "memory.oom_control",
        "pids.peak",
        "pids.events",
        "blkio.throttle.io_service_bytes_recursive",
    ),
    2: ("cpu.stat", "memory.current", "memory.events", "pids.peak", "pids.events", "io.stat"),
}
_LINES_V1 = ("cpu.stat", "memory.oom_control", "pids.events", "blkio.throttle.io_service_bytes_recursive")
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
        self._parsed: tuple[tuple[str | None, ...], Counters] | None = None
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
        counters = parse_v2(files) if self._version == 2 else self._parse_v1(files)
        peak_bytes = self._peak.read()
        self._peak.reset()
        return Look(counters, peak_bytes)

    def _parse_v1(self, files: Mapping[str, str]) -> Counters:
        """As `parse_v1`, for what stands alone in its file; what comes in lines is parsed when it has changed."""
        lines = tuple(files.get(name) for name in _LINES_V1)
        if self._parsed is None or self._parsed[0] != lines:
            self._parsed = lines, parse_v1(files)
        try:
            return replace(
                self._parsed[1],
                cpu_user_seconds=int(files["cpuacct.usage_user"]) / NANOSECONDS,
                cpu_system_seconds=int(files["cpuacct.usage_sys"]) / NANOSECONDS,
                memory_bytes=int(files["memory.usage_in_bytes"]),
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
        """Give the descriptors back. May be called twice."""
        self._peak.close()
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def agent_cpu_seconds(text: str) -> float | None:
    """Of the agent's reading after a test: on v1 one file with one number, quicker than by `parse_agent`."""
    head, _, number = text.strip().rpartition("\n")
    if head == _AGENT_HEAD_V1 and number.isascii() and number.isdigit():
        return int(number) / NANOSECONDS
    return parse_agent(text).cpu_seconds


_AGENT_HEAD_V1 = f"@{AGENT_FILES_V1[0]}"
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

    def keep(name: str, value: float | None) -> None:
        if value is not None and value >= 0:
            figures[name] = value

    for name in _COUNTED:
        keep(name, _growth(getattr(first, name), getattr(last, name)))
    _keep_cpu(keep, first, last, _growth(cpu_before, cpu_after))
    keep("memory_peak_bytes", after.peak_bytes)
    keep("pids_peak", last.pids_peak)
    floor = first.memory_bytes
    if floor is not None and after.peak_bytes is not None:
        floor = min(floor, after.peak_bytes)
    keep("memory_floor_bytes", floor)
    for name, kind in _KINDS.items() if samples else ():
        seen = [v for s in samples if s.anon_bytes and (v := getattr(s, kind)) is not None]
        keep(name, max(seen, default=None))
    sources, missing = _origins(tuple(figures))
    # pids.peak cannot be set back: it is this test's only if it rose
    bounds = () if last.pids_peak is None or last.pids_peak > (first.pids_peak or 0) else ("pids_peak",)
    return Usage(
        **figures,  # type: ignore[arg-type]  # the names are Usage's own, seconds float, the others int
        sources=sources,
        missing=missing,
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
    keep("cpu_seconds", total)
    if user is not None and system is not None and user + system > 0:
        keep("cpu_user_seconds", total * user / (user + system))
        keep("cpu_system_seconds", total * system / (user + system))


def _growth(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


@lru_cache(maxsize=256)
def _origins(names: tuple[str, ...]) -> tuple[dict[str, Source], dict[str, str]]:
    """Sources of these figures, and why others are missing: one pair for all tests that have the same ones."""
    sources = {name: Source.AGENT if name == "cpu_seconds" else Source.KERNEL for name in names}
    return sources, {name: reason for name, reason in _ALL_MISSING.items() if name not in sources}


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

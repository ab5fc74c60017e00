"""Parses the kernel's cgroup files, v1 and v2, from text to `Counters`. It never raises an error.

What a parent cgroup can and cannot say was measured on kernel 6.18 with cgroup v1
(tests/docker/test_cgroups_real.py): CPU time, peak memory and peak pids of its children are in it and outlive
them. OOM kills and refused forks are not: v1 counts both only in the very cgroup of the process
(`Counters.events_are_local`). cgroup v2 counts OOM kills hierarchically, refused forks since 6.11. Throttling
is counted where the quota is set, on both versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NANOSECONDS = 1_000_000_000
MICROSECONDS = 1_000_000
USER_HZ = 100  # of the kernel's ABI on every architecture that runs containers, whatever CONFIG_HZ is
_MAX_DIGITS = 20  # of an unsigned 64-bit number; longer is garbage, and int() of a huge text is slow
_KEYED = re.compile(
    r"^(user|system|usage_usec|user_usec|system_usec|nr_throttled|throttled_time|throttled_usec|oom_kill|max)"
    r" ([0-9]{1,20})[ \t\r]*$",
    re.MULTILINE,
)
_PRESSURE = re.compile(r"^some (?:[^\n]* )?avg10=([0-9]{1,3}(?:\.[0-9]{1,4})?)(?: |$)", re.ASCII | re.MULTILINE)
_PRESSURE_TOTAL = re.compile(r"^some (?:[^\n]* )?total=([0-9]{1,20})(?: |$)", re.ASCII | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """One reading of a cgroup. Running counters are totals since the cgroup was made; None stands for unknown."""

    cpu_seconds: float | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    """Page cache, tmpfs and shared memory included."""
    shmem_bytes: int | None = None
    swap_peak_bytes: int | None = None
    pids: int | None = None
    pids_peak: int | None = None
    oom_kills: int | None = None
    pids_limit_hits: int | None = None
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    """The sum over all CPUs, which may exceed the elapsed time."""
    read_bytes: int | None = None
    write_bytes: int | None = None
    memory_pressure_ratio: float | None = None
    events_are_local: bool = False
    """True on v1: `oom_kills` and `pids_limit_hits` do not contain those of child cgroups."""


def _whole(text: str | None) -> int | None:
    """Return a counter's number; None if it is absent, `max`, negative or invalid."""
    word = (text or "").strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS else None


def _seconds(number: int | None, per_second: int) -> float | None:
    return None if number is None else number / per_second


def _keyed(text: str | None) -> dict[str, int]:
    """Return the lines `key number` of a short file, as far as the key is used here."""
    return {key: int(number) for key, number in _KEYED.findall(text)} if text else {}


def _picked(text: str | None, *keys: str) -> dict[str, int]:
    """Return a few keys of memory.stat, which has sixty lines and is read often.

    Parsing each line costs 10 µs, finding three of them 2 µs.
    """
    found: dict[str, int] = {}
    if text:
        lines = "\n" + text
        for key in keys:
            word = f"\n{key} "
            at = lines.find(word)
            if at >= 0:
                number = _whole(lines[at + len(word) : at + len(word) + _MAX_DIGITS + 1].partition("\n")[0])
                if number is not None:
                    found[key] = number
    return found


_KINDS_V1 = ("total_rss", "total_cache", "total_shmem")
_KINDS_V2 = ("anon", "file", "shmem")


def parse_kinds(text: str, version: int) -> tuple[int | None, int | None, int | None]:
    """Return anonymous memory, memory of files, and shared memory from a memory.stat, in bytes."""
    names = _KINDS_V2 if version == 2 else _KINDS_V1
    found = _picked(text, *names)
    if version == 1 and len(found) < len(names):  # a kernel or a controller without a hierarchy
        local = _picked(text, *(name.removeprefix("total_") for name in names))
        found = {f"total_{name}": number for name, number in local.items()} | found
    anon, file, shmem = (found.get(name) for name in names)
    return anon, file, shmem


def _pressure(text: str | None) -> float | None:
    """Return the ratio in `some avg10=1.23 …`, where it is a percentage; None if it is absent."""
    found = _PRESSURE.search(text) if text else None
    return min(float(found.group(1)) / 100, 1.0) if found else None


def pressure_seconds(text: str) -> float | None:
    """Return how long some task of the cgroup has waited since the cgroup was made, from `some … total=123`."""
    found = _PRESSURE_TOTAL.search(text)
    return int(found.group(1)) / MICROSECONDS if found else None


def _v1_io(files: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the bytes read and written on all devices, or None for each.

    A file without a device line is no figure: recent kernels
    count here only once a throttling rule was set, so its `Total 0` is not a measured zero.
    """
    name = "blkio.throttle.io_service_bytes"
    text = files.get(f"{name}_recursive") or files.get(name) or ""
    sums: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        number = _whole(words[2]) if len(words) == 3 else None
        if number is not None:
            sums[words[1]] = sums.get(words[1], 0) + number
    return sums.get("Read"), sums.get("Write")


def _v2_io(text: str | None) -> tuple[int | None, int | None]:
    """Return the bytes read and written on all devices; an empty `io.stat` is a measured zero."""
    if text is None:
        return None, None
    sums = {"rbytes": 0, "wbytes": 0}
    understood = not text.strip()
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            number = _whole(value)
            if key in sums and number is not None:
                sums[key] += number
                understood = True
    return (sums["rbytes"], sums["wbytes"]) if understood else (None, None)


def parse_v1(files: Mapping[str, str]) -> Counters:
    """Return counters from v1 files by name, of all controllers. `total_*` of memory.stat includes children.

    No swap peak: memsw's peak and memory's peak are of different moments, so their difference is not one.
    """
    events = _keyed(files.get("memory.oom_control"))
    anon, file, shmem = parse_kinds(files.get("memory.stat", ""), 1)
    cpu, ticks = _keyed(files.get("cpu.stat")), _keyed(files.get("cpuacct.stat"))
    usage = _seconds(_whole(files.get("cpuacct.usage")), NANOSECONDS)
    user = _seconds(_whole(files.get("cpuacct.usage_user")), NANOSECONDS)
    system = _seconds(_whole(files.get("cpuacct.usage_sys")), NANOSECONDS)
    user = _seconds(ticks.get("user"), USER_HZ) if user is None else user
    system = _seconds(ticks.get("system"), USER_HZ) if system is None else system
    if usage is None and user is not None and system is not None:
        usage = user + system
    read_bytes, write_bytes = _v1_io(files)
    return Counters(
        cpu_seconds=usage,
        cpu_user_seconds=user,
        cpu_system_seconds=system,
        memory_bytes=_whole(files.get("memory.usage_in_bytes")),
        memory_peak_bytes=_whole(files.get("memory.max_usage_in_bytes")),
        anon_bytes=anon,
        file_bytes=file,
        shmem_bytes=shmem,
        pids=_whole(files.get("pids.current")),
        pids_peak=_whole(files.get("pids.peak")),
        oom_kills=events.get("oom_kill"),
        pids_limit_hits=_keyed(files.get("pids.events")).get("max"),
        throttled_periods=cpu.get("nr_throttled"),
        throttled_seconds=_seconds(cpu.get("throttled_time"), NANOSECONDS),
        read_bytes=read_bytes,
        write_bytes=write_bytes,
        memory_pressure_ratio=_pressure(files.get("memory.pressure")),
        events_are_local=True,
    )


def parse_v2(files: Mapping[str, str]) -> Counters:
    """Return counters from v2 files by name (kernel's Documentation/admin-guide/cgroup-v2.rst)."""
    anon, file, shmem = parse_kinds(files.get("memory.stat", ""), 2)
    cpu = _keyed(files.get("cpu.stat"))
    read_bytes, write_bytes = _v2_io(files.get("io.stat"))
    return Counters(
        cpu_seconds=_seconds(cpu.get("usage_usec"), MICROSECONDS),
        cpu_user_seconds=_seconds(cpu.get("user_usec"), MICROSECONDS),
        cpu_system_seconds=_seconds(cpu.get("system_usec"), MICROSECONDS),
        memory_bytes=_whole(files.get("memory.current")),
        memory_peak_bytes=_whole(files.get("memory.peak")),
        anon_bytes=anon,
        file_bytes=file,
        shmem_bytes=shmem,
        swap_peak_bytes=_whole(files.get("memory.swap.peak")),
        pids=_whole(files.get("pids.current")),
        pids_peak=_whole(files.get("pids.peak")),
        oom_kills=_keyed(files.get("memory.events")).get("oom_kill"),
        pids_limit_hits=_keyed(files.get("pids.events")).get("max"),
        throttled_periods=cpu.get("nr_throttled"),
        throttled_seconds=_seconds(cpu.get("throttled_usec"), MICROSECONDS),
        read_bytes=read_bytes,
        write_bytes=write_bytes,
        memory_pressure_ratio=_pressure(files.get("memory.pressure")),
    )


def parse_agent(text: str) -> Counters:
    """Return counters from the agent's section: `@PATH`, then that file's lines, any number of times.

    A file without lines is ignored: the agent cannot tell an empty file from one that it may not read.
    """
    files: dict[str, str] = {}
    version = 2
    for block in ("\n" + text).split("\n@")[1:]:
        path, _, content = block.partition("\n")
        name, hierarchy = _file_and_folder(path)
        if hierarchy != "cgroup":  # /sys/fs/cgroup/CONTROLLER/FILE
            version = 1
        if content.strip() and (hierarchy != "unified" or name == "memory.pressure"):
            files[name] = f"{files[name]}\n{content}" if name in files else content
    return parse_v1(files) if version == 1 else parse_v2(files)


@lru_cache(maxsize=64)
def _file_and_folder(path: str) -> tuple[str, str]:
    """Return the names of a file and of its folder; there are about twelve different paths."""
    place = PurePosixPath(path.strip())
    return place.name, place.parent.name

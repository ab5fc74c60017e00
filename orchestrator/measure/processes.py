"""Reads the machine's resources that this process may use, names owners of containers, and counts processes.

The only importer of psutil.
"""

from __future__ import annotations

import hashlib
import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from orchestrator.measure.cgroups import read_text
from orchestrator.model.runs import HostInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_HAS_PROC = Path("/proc/self").exists()
_UNLIMITED_BYTES = 1 << 60
"""v1 writes "no limit" as a number near 2^63."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCount:
    """Sums over some processes, and the maxima of a single one; None if they cannot be read."""

    processes: int | None = None
    threads: int | None = None
    open_files: int | None = None
    threads_max: int | None = None
    open_files_max: int | None = None


def host_info() -> HostInfo:
    """Return the resources of the machine that this process may use, by CPU affinity and cgroup limits."""
    own = read_text("/proc/self/cgroup") or ""
    return HostInfo(
        id=_host_id(),
        cpus=_granted_cpus(own, _CGROUP_ROOT, float(_affinity_count())),
        memory_bytes=_granted_memory(own, _CGROUP_ROOT, psutil.virtual_memory().total),
        kernel=platform.release(),
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
        nofile=_nofile(),
    )


def _nofile() -> int:
    """Return the hard limit of open files, which processes inherit; the engine's is the same unless it was set."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def _host_id() -> str:
    """Return a digest of the machine's ID, so that reports never contain the ID itself."""
    text = read_text("/etc/machine-id") or read_text("/var/lib/dbus/machine-id") or platform.node()
    return hashlib.sha256(b"orch host " + text.strip().encode()).hexdigest()[:16]


def _affinity_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count() or 1


def _granted_cpus(own_cgroups: str, root: Path, built_in: float) -> float:
    """Return the least of the available CPUs and every quota from the own cgroup up to the root."""
    granted = built_in
    for folder in _folders(own_cgroups, root, "cpu"):
        quota_text, _, period_text = (read_text(f"{folder}/cpu.max") or "").strip().partition(" ")
        if not quota_text:
            quota_text = (read_text(f"{folder}/cpu.cfs_quota_us") or "").strip()
            period_text = (read_text(f"{folder}/cpu.cfs_period_us") or "").strip()
        if quota_text.isdigit() and period_text.isdigit() and int(quota_text) and int(period_text):
            granted = min(granted, int(quota_text) / int(period_text))  # `max` and -1 are no digits
    return granted


def _granted_memory(own_cgroups: str, root: Path, physical_bytes: int) -> int:
    """Return the least of the machine's memory and every limit from the own cgroup up to the root, in bytes."""
    granted = physical_bytes
    for folder in _folders(own_cgroups, root, "memory"):
        text = read_text(f"{folder}/memory.max") or read_text(f"{folder}/memory.limit_in_bytes") or ""
        if text.strip().isdigit() and 0 < int(text) < _UNLIMITED_BYTES:
            granted = min(granted, int(text))
    return granted


def _folders(own_cgroups: str, root: Path, controller: str) -> Iterator[str]:
    """Yield the folders of a process's cgroup and its ancestors, from the text of /proc/PID/cgroup.

    In a container, the path may be the host's and not exist; then the hierarchy's root is the container's cgroup.
    """
    for line in own_cgroups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        folder = root / controllers if controllers else root
        if not controllers and not (root / "cgroup.controllers").exists():
            continue  # the hybrid's v2 hierarchy: it limits nothing
        inner = folder / path.strip("/")
        yield from (str(place) for place in (inner, *inner.parents) if place.is_relative_to(folder))


def owner_token() -> str:
    """Return the unique name of this process for the labels of what it makes: `boot_id:pid:start_time`."""
    namespace = _pid_namespace()
    return f"{boot_id()}{namespace and f'.{namespace}'}:{os.getpid()}:{_start_time(os.getpid())}"


def owner_mark() -> str:
    """Return the name of this process for a cgroup's name, without the boot: `pid_namespace.pid.start_time`."""
    return f"{_pid_namespace() or '0'}.{os.getpid()}.{_start_time(os.getpid())}"


def token_of_mark(mark: str) -> str:
    """Return the token of the process with this mark, which was made since this machine was booted."""
    namespace, pid, start_time = mark.split(".")
    return f"{boot_id()}{'' if namespace == '0' else f'.{namespace}'}:{pid}:{start_time}"


def owner_alive(token: str) -> bool:
    """Return whether the process of that token still runs.

    A recycled pid has another start time, and a reboot another boot ID. A process of another pid namespace cannot
    be seen from here, so it counts as alive and its objects are not touched.
    """
    boot, _, rest = token.partition(":")
    pid, _, start_time = rest.partition(":")
    boot, _, namespace = boot.partition(".")
    if boot != boot_id() or not pid.isdigit():
        return False
    if namespace != _pid_namespace():
        return True
    return _start_time(int(pid)) == start_time


def owner_is_of_this_boot(token: str) -> bool:
    """Return whether the token was made on this machine since it was booted, in any pid namespace."""
    return token.partition(":")[0].partition(".")[0] == boot_id()


def boot_id() -> str:
    """Return the ID of this boot: the kernel's, or the time of the boot if there is no /proc."""
    return (read_text("/proc/sys/kernel/random/boot_id") or f"{psutil.boot_time():.0f}").strip()


def _pid_namespace() -> str:
    """Return the ID of the pid namespace in which this process's pid is valid; empty if there is no /proc."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return a process's start time, in ticks since boot if /proc has it, which no clock adjustment changes.

    Returns None if there is no such process, or if it is a zombie.
    """
    stat = read_text(f"/proc/{pid}/stat")
    if stat is not None:
        fields = stat.rpartition(")")[2].split()  # the name before it may contain anything
        return fields[19] if len(fields) > 19 and fields[0] not in {"Z", "X"} else None
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def count(pids: Iterable[int]) -> ProcessCount:
    """Count the processes, threads and open files of those pids that still exist.

    The files of another user's processes cannot be seen; then their sum is None.
    """
    seen = [one for pid in pids if (one := _count_one(pid)) is not None]
    files = [open_files for _, open_files in seen if open_files is not None]
    visible = len(files) == len(seen)
    return ProcessCount(
        processes=len(seen),
        threads=sum(threads for threads, _ in seen),
        open_files=sum(files) if visible else None,
        threads_max=max((threads for threads, _ in seen), default=0),
        open_files_max=max(files, default=0) if visible else None,
    )


def _count_one(pid: int) -> tuple[int, int | None] | None:
    """Return (threads, open files) of one process; None if it has ended.

    This takes two system calls where psutil takes twenty: the task folder has two links and one for each thread.
    """
    try:
        threads = os.stat(f"/proc/{pid}/task").st_nlink - 2  # noqa: PTH116 - a Path costs as much as the look
    except OSError:
        return None if _HAS_PROC else _count_by_psutil(pid)
    try:
        return threads, len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - as above
    except PermissionError:
        return threads, None
    except OSError:
        return None


def _count_by_psutil(pid: int) -> tuple[int, int | None] | None:
    """Return the same as `_count_one` by psutil, for systems without /proc."""
    try:
        process = psutil.Process(pid)
        threads = process.num_threads()
    except psutil.Error:  # it has ended, or is a zombie
        return None
    try:
        return threads, process.num_fds()
    except psutil.AccessDenied:
        return threads, None
    except psutil.Error:
        return None

"""Locates, reads and removes cgroups, on v1, v2 and the hybrid of both."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.measure.counters import Counters, parse_agent, parse_v1, parse_v2

__all__ = [
    "AGENT_FILES_V1",
    "AGENT_FILES_V2",
    "AGENT_STAT_V1",
    "AGENT_STAT_V2",
    "CgroupPaths",
    "Counters",
    "detect_version",
    "is_frozen",
    "locate",
    "memory_limit",
    "parse_agent",
    "parse_v1",
    "parse_v2",
    "process_ids",
    "read",
    "read_text",
    "remove",
    "thaw",
]

_READ_BYTES = 16384
_REMOVE_SECONDS = 0.5
_MEMORY_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}

_V1_FILES = (
    "cpuacct.usage",
    "cpuacct.usage_user",
    "cpuacct.usage_sys",
    "cpuacct.stat",
    "cpu.stat",
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.stat",
    "memory.oom_control",
    "pids.current",
    "pids.peak",
    "pids.events",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.throttle.io_service_bytes",
    "memory.pressure",
)
_V2_FILES = (
    "cpu.stat",
    "memory.current",
    "memory.peak",
    "memory.swap.peak",
    "memory.stat",
    "memory.events",
    "pids.current",
    "pids.peak",
    "pids.events",
    "io.stat",
    "memory.pressure",
)
_V1_SERIES = (
    "cpuacct.usage",
    "cpu.stat",
    "memory.usage_in_bytes",
    "memory.stat",
    "pids.current",
    "blkio.throttle.io_service_bytes_recursive",
    "memory.pressure",
)
_V2_SERIES = (
    "cpu.stat",
    "memory.current",
    "memory.stat",
    "pids.current",
    "io.stat",
    "memory.pressure",
)

# What agent.sh reads with shell builtins, a byte a system call: short files only, so no memory.stat.
AGENT_FILES_V1 = (
    "/sys/fs/cgroup/cpuacct/cpuacct.usage",
    "/sys/fs/cgroup/cpuacct/cpuacct.usage_user",
    "/sys/fs/cgroup/cpuacct/cpuacct.usage_sys",
    "/sys/fs/cgroup/cpu/cpu.stat",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
    "/sys/fs/cgroup/memory/memory.oom_control",
    "/sys/fs/cgroup/pids/pids.peak",
    "/sys/fs/cgroup/pids/pids.events",
    "/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive",
)
AGENT_STAT_V1 = "/sys/fs/cgroup/memory/memory.stat"
AGENT_STAT_V2 = "/sys/fs/cgroup/memory.stat"
"""The file with memory by its kinds. Reading it takes an agent 2 ms, so it does so only where orch cannot."""
AGENT_FILES_V2 = (
    "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/memory.peak",
    "/sys/fs/cgroup/memory.swap.peak",
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/pids.peak",
    "/sys/fs/cgroup/pids.events",
    "/sys/fs/cgroup/io.stat",
)


@dataclass(frozen=True)
class CgroupPaths:
    """A cgroup's folders: one on v2, one in each hierarchy on v1 (the hybrid's `unified` included).

    Not slotted: it remembers which files exist, because asking costs as much as reading. The kernel makes a
    cgroup's files together with its folder, so what was there once stays as long as the folder does.
    """

    version: int
    folders: tuple[Path, ...]

    @cached_property
    def files(self) -> tuple[tuple[str, str], ...]:
        """The (name, full path) of each file with a counter."""
        return self._existing(_V2_FILES if self.version == 2 else _V1_FILES)

    @cached_property
    def series_files(self) -> tuple[tuple[str, str], ...]:
        """The (name, full path) of each file that a sample needs."""
        return self._existing(_V2_SERIES if self.version == 2 else _V1_SERIES)

    def _existing(self, wanted: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for folder in self.folders:
            hybrid = self.version == 1 and (folder / "cgroup.controllers").exists()
            for name in ("memory.pressure",) if hybrid else wanted:  # its cpu.stat has v2's format
                if (folder / name).exists():
                    found.setdefault(name, str(folder / name))
        return tuple(found.items())


def detect_version(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return 2 if the unified hierarchy is mounted at the root, 1 for controllers (or the hybrid), else None."""
    if (root / "cgroup.controllers").exists():
        return 2
    return 1 if (root / "memory").is_dir() else None


def _inside(cgroup: str) -> str | None:
    """Return the cgroup's path relative to a hierarchy's root; None for the root itself and for a path outside.

    systemd nests slices by their names: `a-b.slice` is the folder `a.slice/a-b.slice`.
    """
    parts = [part for part in cgroup.split("/") if part not in {"", "."}]
    if not parts or ".." in parts or "\0" in cgroup:
        return None
    head = parts[0]
    if head.endswith(".slice") and "-" in head.strip("-"):
        words = head.removesuffix(".slice").split("-")
        parts[:1] = ["-".join(words[: n + 1]) + ".slice" for n in range(len(words))]
    return "/".join(parts)


def locate(cgroup: str, version: int | None, root: Path = Path("/sys/fs/cgroup")) -> CgroupPaths | None:
    """Return the folders of a cgroup, or None if it does not exist here. `version` None is detected.

    The engine makes the folders one after another, so call this after `start` has returned.
    """
    version = version or detect_version(root)
    relative = _inside(cgroup)
    if relative is None or version is None:
        return None
    if version == 2:
        hierarchies = [str(root)]
    else:  # `cpu` may be a link to `cpu,cpuacct`: each real folder once
        try:
            hierarchies = sorted({os.path.realpath(entry) for entry in os.scandir(root) if entry.is_dir()})
        except OSError:
            return None
    folders = tuple(Path(hierarchy, relative) for hierarchy in hierarchies)
    folders = tuple(folder for folder in folders if folder.is_dir())
    return CgroupPaths(version, folders) if folders else None


def read_text(path: str) -> str | None:
    """Return a small file's content; None if it cannot be read. Path and io objects would cost too much here."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pieces = []
        while piece := os.read(descriptor, _READ_BYTES):
            pieces.append(piece)
    except OSError:  # ENODEV: the cgroup was removed in between
        return None
    finally:
        os.close(descriptor)
    return b"".join(pieces).decode("ascii", "replace")


def read(paths: CgroupPaths, *, series: bool = False) -> Counters:
    """Read all counters, or with `series` those that a sample needs; what cannot be read is None."""
    wanted = paths.series_files if series else paths.files
    files = {name: text for name, path in wanted if (text := read_text(path)) is not None}
    return parse_v2(files) if paths.version == 2 else parse_v1(files)


def memory_limit(paths: CgroupPaths) -> int | None:
    """Return the memory limit in bytes; None if there is none, or it cannot be read."""
    for folder in paths.folders:
        text = read_text(f"{folder}/{_MEMORY_LIMIT[paths.version]}")
        if text and text.strip().isdigit():
            return int(text)
    return None


def process_ids(paths: CgroupPaths) -> tuple[int, ...]:
    """Return the host pids of the processes in this cgroup, without its children; empty if it is gone."""
    for folder in paths.folders:
        text = read_text(f"{folder}/cgroup.procs")
        if text:
            return tuple(int(line) for line in text.splitlines() if line.isdigit())
    return ()


def is_frozen(paths: CgroupPaths) -> bool:
    """Return whether the freezer has stopped the cgroup's processes."""
    for folder in paths.folders:
        state = read_text(f"{folder}/freezer.state")
        if state is not None and state.strip() != "THAWED":
            return True
        if "frozen 1" in (read_text(f"{folder}/cgroup.events") or ""):
            return True
    return False


def thaw(paths: CgroupPaths) -> None:
    """Let the cgroup's processes run again, if this user may. On v1, a frozen process cannot be killed."""
    for folder in paths.folders:
        for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with suppress(OSError):
                descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(descriptor, word.encode())
                finally:
                    os.close(descriptor)


def remove(paths: CgroupPaths) -> bool:
    """Remove the cgroup and its empty children in every hierarchy; return whether nothing of it is left.

    The kernel refuses while a process is inside, and for a moment after that; the moment is waited for.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        left = [folder for folder in paths.folders if not _remove_folder(str(folder))]
        if not left or time.monotonic() > deadline:
            return not left
        time.sleep(0.02)


def _remove_folder(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for child in children:
            _remove_folder(child)
        Path(folder).rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True

"""Finds and removes the remains of orch's containers that a restarted engine no longer knows.

The remains are the cgroups of slots, the processes in them (`runc init`, which waits to be started), and the
containerd-shim processes that served them. A cgroup is recognised as orch's by its name: it contains the run and
the process that made it (`parent_cgroups.own_name`), or the user who leases it. A shim is orch's if its
container's configuration names such a cgroup. Processes are killed by cgroup, never by name.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.metering import parent_cgroups
from orchestrator.measure import cgroups
from orchestrator.measure.processes import token_of_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_OWN = re.compile(r"orch[-_](?P<run>[0-9a-f]{8})[-_](?P<mark>\d+\.\d+\.\d+)[-_]\d+(?:\.slice)?")
_LEASED = re.compile(r"orch[-_]u(?P<user>\d+)[-_](?P<number>\d+)(?:\.slice)?")
_SWEEPS = 5
"""The number of times that the processes of a cgroup are killed: one may fork while the others are killed."""
_END_SECONDS = 2.0
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanedSlot:
    """The cgroups, processes and shims that remain of one slot."""

    name: str
    """The name of the slot's parent cgroup, without a slash."""
    folders: tuple[Path, ...]
    """The cgroup folders to remove, in all hierarchies; empty if only shims are left."""
    processes: frozenset[int]
    shims: frozenset[int]

    @property
    def text(self) -> str:
        """A description for messages."""
        parts = [f"cgroup {self.name}" if self.folders else f"runtime of {self.name}"]
        if self.processes:
            parts.append(f"with {len(self.processes)} process{'' if len(self.processes) == 1 else 'es'}")
        if self.shims:
            parts.append(f"and {len(self.shims)} containerd-shim")
        return " ".join(parts)


def find_of_run(run_id: str, *, shims: bool = True) -> tuple[OrphanedSlot, ...]:
    """Return the remains of a run that has ended; with `shims`, also its shims, a search through all processes."""
    return _find(lambda name: _is_of_run(name, run_id), leased=False, shims=shims)


def find_of_dead(owner_alive: Callable[[str], bool]) -> tuple[OrphanedSlot, ...]:
    """Return the remains of runs whose orch process is dead, and those in leasable cgroups that are not leased."""
    return _find(lambda name: _is_of_dead(name, owner_alive), leased=True, shims=True)


def remove(found: Iterable[OrphanedSlot]) -> tuple[str, ...]:
    """Kill the processes and remove the cgroups; return a text for each that could not be removed."""
    return tuple(problem for one in found if (problem := _remove(one)) is not None)


def _is_of_run(name: str, run_id: str) -> bool:
    match = _OWN.fullmatch(name)
    return match is not None and match["run"] == run_id[:8]


def _is_of_dead(name: str, owner_alive: Callable[[str], bool]) -> bool:
    match = _OWN.fullmatch(name)
    if match is not None:
        return not owner_alive(token_of_mark(match["mark"]))
    match = _LEASED.fullmatch(name)
    return match is not None and not _is_leased(int(match["user"]), int(match["number"]))


# ---------------------------------------------------------------- finding


def _find(wanted: Callable[[str], bool], *, leased: bool, shims: bool) -> tuple[OrphanedSlot, ...]:
    folders: dict[str, list[Path]] = {}
    for path in _slot_folders(parent_cgroups.CGROUP_ROOT):
        folders.setdefault(path.name, []).append(path)
    served = _shims() if shims else {}
    found = []
    for name in sorted({*folders, *served}):
        if not wanted(name):
            continue
        places = tuple(sorted(folders.get(name, ())))
        if _LEASED.fullmatch(name):
            # keep the parent for the next slot, and remove the containers' cgroups in it
            places = tuple(child for place in places for child in _children(place)) if leased else ()
        processes = frozenset(pid for place in places for pid in _processes(place))
        if places or name in served:
            found.append(
                OrphanedSlot(name=name, folders=places, processes=processes, shims=frozenset(served.get(name, ())))
            )
    return tuple(found)


def _slot_folders(root: Path) -> Iterator[Path]:
    """Yield the slots' cgroup folders of each hierarchy, once each: `cpu` may be a link to `cpu,cpuacct`."""
    hierarchies = {root}
    if cgroups.detect_version(root) != 2:
        with suppress(OSError):
            hierarchies = {Path(os.path.realpath(entry)) for entry in os.scandir(root) if entry.is_dir()}
    for hierarchy in hierarchies:
        yield from (
            path for path in _children(hierarchy) if _OWN.fullmatch(path.name) or _LEASED.fullmatch(path.name)
        )


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # the folder no longer exists
        return []


def _processes(folder: Path) -> set[int]:
    """Return the pids of the processes in this cgroup and those below it."""
    own = (cgroups.read_text(f"{folder}/cgroup.procs") or "").split()
    pids = {int(word) for word in own if word.isdigit() and int(word) > 0}
    return pids.union(*(_processes(child) for child in _children(folder)))


def _shims() -> dict[str, set[int]]:
    """Return the pids of this user's containerd-shims by the name of the parent cgroup of their containers."""
    found: dict[str, set[int]] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        comm = cgroups.read_text(f"{entry}/comm") or ""
        if not comm.startswith("containerd-shim"):
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):
            settings = json.loads((entry / "cwd" / "config.json").read_text(encoding="utf-8"))
            name = re.split(r"[/:]", str(settings["linux"]["cgroupsPath"]).strip("/"))[0]
            if _OWN.fullmatch(name) or _LEASED.fullmatch(name):
                found.setdefault(name, set()).add(int(entry.name))
    return found


def _is_leased(user: int, number: int) -> bool:
    """Return whether a process holds the lease of this number; True also if that cannot be determined."""
    path = parent_cgroups.lease_folder(user) / str(number)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


# ---------------------------------------------------------------- removing


def _remove(one: OrphanedSlot) -> str | None:
    paths = cgroups.CgroupPaths(cgroups.detect_version(parent_cgroups.CGROUP_ROOT) or 1, one.folders)
    inner = [child for folder in one.folders for child in _tree(folder)]
    cgroups.thaw(cgroups.CgroupPaths(paths.version, tuple(inner)))
    for _ in range(_SWEEPS):
        if not _kill(one.folders):
            break
        _await_end(one.folders)
    if one.folders and not parent_cgroups.remove(paths):
        left = {pid for folder in one.folders for pid in _processes(folder)}
        return f"{one.text}: {_why(left)}"
    for pid in one.shims & _shims().get(one.name, set()):
        if not _kill_shim(pid, one.name):
            return f"containerd-shim {pid} of {one.name}: it could not be ended"
    return None


def _tree(folder: Path) -> Iterator[Path]:
    yield folder
    for child in _children(folder):
        yield from _tree(child)


def _why(processes: set[int]) -> str:
    if os.geteuid() != 0:
        return "only root can remove it: sudo orch clean"
    if not processes:
        return "the kernel does not let it go yet"
    return f"process {', '.join(map(str, sorted(processes)[:5]))} does not end"


def _kill(folders: tuple[Path, ...]) -> bool:
    """Kill all processes in these cgroups; return whether there were any.

    A pidfd refers to its process even after the pid is reused. It is opened before the cgroup is read a second
    time, so that no process of somebody else is killed.
    """
    opened: dict[int, int] = {}
    try:
        for pid in {pid for folder in folders for pid in _processes(folder)}:
            with suppress(OSError):
                opened[pid] = os.pidfd_open(pid)
        inside = {pid for folder in folders for pid in _processes(folder)}
        for pid in opened.keys() & inside:
            with suppress(OSError):
                signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
        return bool(inside)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _kill_shim(pid: int, name: str) -> bool:
    """Kill a shim after checking again that it belongs to the slot; return False if that failed."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        if pid in _shims().get(name, set()):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _await_end(folders: tuple[Path, ...]) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while any(_processes(folder) for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.02)

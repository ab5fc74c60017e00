"""The parent cgroup of a slot: who may have one, what it is called, and how it goes away.

Root gives each slot a parent of its own and removes it. An ordinary user whose engine runs as root can read such
cgroups but not remove them, so they are few and stay: one for each slot that runs at the same time, named by user
and number, and read by difference. docs/design/cgroups.md has the measurements.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.metering import systemd_slices
from orchestrator.measure import cgroups
from orchestrator.measure.processes import owner_mark

if TYPE_CHECKING:
    from orchestrator.model.runs import EngineInfo

CGROUP_PREFIX = "orch-"
"""Slots' cgroups stand side by side at the top: a common one above them could not be removed by one run without
breaking the start of another's container.
"""
SLICE_PREFIX = "orch_"
"""For the same reason without a dash: systemd puts `a-b.slice` into `a.slice`, which nobody would then remove."""
CGROUP_ROOT = Path("/sys/fs/cgroup")
MAX_NUMBERS = 1024


class ParentKind(StrEnum):
    """What parent a slot can have."""

    OWN = "own"
    """Made for the slot and removed after it."""
    LEASED = "leased"
    """One of the user's fixed few, which nobody removes."""
    NONE = "none"
    """The engine's cgroups are not ours to choose or to see: the agent's record is the source."""


def parent_kind(info: EngineInfo) -> ParentKind:
    """What this process can have on this engine. Podman may put its monitor process beside the container, into the
    parent, where it would be measured too: no parent there.
    """
    if not info.local or info.rootless or info.name != "docker":
        return ParentKind.NONE
    if info.cgroup_driver not in ("cgroupfs", "systemd"):
        return ParentKind.NONE
    if os.geteuid() != 0:
        return ParentKind.LEASED
    return ParentKind.OWN if _can_remove(info) else ParentKind.NONE


def can_own_cgroups(info: EngineInfo) -> bool:
    """True where a slot can have a parent cgroup that we may read and remove."""
    return parent_kind(info) is ParentKind.OWN


def _can_remove(info: EngineInfo) -> bool:
    """False in a container that was only lent the engine's socket: it sees none of the host, or cannot write."""
    hierarchy = CGROUP_ROOT if info.cgroup_version == 2 else CGROUP_ROOT / "memory"
    if not os.access(hierarchy, os.W_OK):
        return False
    return info.cgroup_driver == "cgroupfs" or systemd_slices.BOOTED.is_dir()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotParent:
    """A slot's parent, by the name that the engine takes for `CgroupParent`."""

    name: str
    version: int
    lease: Lease | None = None
    """Of a leased one."""

    def locate(self) -> cgroups.CgroupPaths | None:
        """Its files; None before the engine has made it."""
        return cgroups.locate(self.name, self.version)

    def close(self) -> None:
        """Remove it or give it back; the container must be gone."""
        if self.lease is not None:
            self.lease.release()
            return
        paths = self.locate()
        if paths is not None:
            remove(paths)


def parent_of_slot(info: EngineInfo, run_id: str, number: int) -> SlotParent | None:
    """The parent for a slot that begins, None where it can have none. Close it whatever happens."""
    version = info.cgroup_version or 1
    match parent_kind(info):
        case ParentKind.OWN:
            return SlotParent(name=own_name(info.cgroup_driver, run_id, number), version=version)
        case ParentKind.LEASED:
            return lease_parent(info.cgroup_driver, version)
        case ParentKind.NONE:
            return None


def own_name(driver: str | None, run_id: str, number: int) -> str:
    """Says which run's it is and which process made it: whoever finds it later knows whether that still lives. The
    engine refuses a name without `.slice` under the systemd driver.
    """
    if driver == "systemd":
        return f"{SLICE_PREFIX}{run_id[:8]}_{owner_mark()}_{number}.slice"
    return f"/{CGROUP_PREFIX}{run_id[:8]}-{owner_mark()}-{number}"


def leased_name(driver: str | None, uid: int, number: int) -> str:
    """Cannot be mistaken for a run's: `u` is no hexadecimal digit."""
    if driver == "systemd":
        return f"{SLICE_PREFIX}u{uid}_{number}.slice"
    return f"/{CGROUP_PREFIX}u{uid}-{number}"


# ---------------------------------------------------------------- removal


def remove(paths: cgroups.CgroupPaths) -> bool:
    """Remove a cgroup; True if nothing of it is left. A slice belongs to systemd, and is stopped."""
    slices = {folder.name for folder in paths.folders if folder.name.endswith(".slice")}
    if slices:
        systemd_slices.stop_slices(slices)
    return cgroups.remove(paths)


# ---------------------------------------------------------------- leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A slot number that no other slot of this user has, in this run or another, until it is released or this
    process ends.
    """

    number: int
    path: Path
    descriptor: int

    def release(self) -> None:
        """Give it back; the files go with the last one."""
        with suppress(OSError):
            self.path.unlink()  # first: who has opened it meanwhile finds another file, or none, at its path
        os.close(self.descriptor)
        with suppress(OSError):
            self.path.parent.rmdir()


def lease_folder(user: int | None = None) -> Path:
    """One place for all runs of a user, by default of this one: neither TMPDIR nor a login session may make it
    two.
    """
    return Path("/tmp") / f"orch-u{os.geteuid() if user is None else user}"  # noqa: S108 - checked below to be this user's alone


def lease_parent(driver: str | None, version: int, folder: Path | None = None) -> SlotParent | None:
    """The first of this user's parents that is free. A killed run's lock is free at once, its container lives a
    little longer: a parent with processes in it is passed over. None: the folder is not ours, or all are taken.
    """
    folder = folder or lease_folder()
    for number in range(1, MAX_NUMBERS + 1):
        try:
            lease = _try_lease(folder, number)
        except OSError:
            return None
        if lease is None:
            continue
        parent = SlotParent(name=leased_name(driver, os.geteuid(), number), version=version, lease=lease)
        paths = parent.locate()
        if paths is None or not cgroups.read(paths).pids:
            return parent
        lease.release()
    return None


def _try_lease(folder: Path, number: int) -> Lease | None:
    """None: somebody has it. OSError: the folder cannot be used."""
    path = folder / str(number)
    while True:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise PermissionError(f"{folder} is not this user's folder")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # the last lease was released just now, and the folder went with it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return Lease(number=number, path=path, descriptor=descriptor)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)  # it was released between open and lock: try the file that is there now

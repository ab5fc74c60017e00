"""Chooses, names and removes the parent cgroup of a slot.

Root gives each slot a parent of its own and removes it. An ordinary user whose engine runs as root can read such
cgroups but not remove them, so a few of them are kept: one for each slot that runs at the same time, named by user
and number. Its counters are the differences of two readings. docs/design/engine/cgroups.md has the measurements.
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
"""The start of a slot's cgroup name. The cgroups are all at the top level: if they had a common parent, one run
could not remove it without breaking the start of another run's container.
"""
SLICE_PREFIX = "orch_"
"""The start of a slot's slice name, without a dash: systemd puts `a-b.slice` in `a.slice`, which would remain."""
CGROUP_ROOT = Path("/sys/fs/cgroup")
MAX_NUMBERS = 1024


class ParentKind(StrEnum):
    """The kind of parent cgroup that a slot can have."""

    OWN = "own"
    """A cgroup that is made for the slot and removed after it."""
    LEASED = "leased"
    """One of a few fixed cgroups of the user, which are never removed."""
    NONE = "none"
    """No parent, because the engine's cgroups cannot be chosen or read: figures come from the agent's record."""


def parent_kind(info: EngineInfo) -> ParentKind:
    """Return the kind of parent that this process can have on this engine.

    With Podman it is NONE: Podman may put its monitor process into the parent, where it would be measured too.
    """
    if not info.local or info.rootless or info.name != "docker":
        return ParentKind.NONE
    if info.cgroup_driver not in ("cgroupfs", "systemd"):
        return ParentKind.NONE
    if os.geteuid() != 0:
        return ParentKind.LEASED
    return ParentKind.OWN if _can_remove(info) else ParentKind.NONE


def can_own_cgroups(info: EngineInfo) -> bool:
    """Return whether a slot can have a parent cgroup that orch may read and remove."""
    return parent_kind(info) is ParentKind.OWN


def _can_remove(info: EngineInfo) -> bool:
    """Return False in a container with only the engine's socket: it cannot use the host's cgroups."""
    hierarchy = CGROUP_ROOT if info.cgroup_version == 2 else CGROUP_ROOT / "memory"
    if not os.access(hierarchy, os.W_OK):
        return False
    return info.cgroup_driver == "cgroupfs" or systemd_slices.BOOTED.is_dir()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotParent:
    """The parent cgroup of a slot; `name` is the value of the engine's setting `CgroupParent`."""

    name: str
    version: int
    lease: Lease | None = None
    """The lease of a leased parent; None for an own one."""

    def locate(self) -> cgroups.CgroupPaths | None:
        """Return the cgroup's folders; None before the engine has made it."""
        return cgroups.locate(self.name, self.version)

    def close(self) -> None:
        """Remove the cgroup or release its lease; the container must be gone."""
        if self.lease is not None:
            self.lease.release()
            return
        paths = self.locate()
        if paths is not None:
            remove(paths)


def parent_of_slot(info: EngineInfo, run_id: str, number: int) -> SlotParent | None:
    """Return the parent for a new slot, or None if it can have none. Always close it."""
    version = info.cgroup_version or 1
    match parent_kind(info):
        case ParentKind.OWN:
            return SlotParent(name=own_name(info.cgroup_driver, run_id, number), version=version)
        case ParentKind.LEASED:
            return lease_parent(info.cgroup_driver, version)
        case ParentKind.NONE:
            return None


def own_name(driver: str | None, run_id: str, number: int) -> str:
    """Return the name of a slot's own parent, which contains its run and the process that made it.

    By these, a later clean-up determines whether that process still runs. Under the systemd driver, the engine
    refuses a name without `.slice`.
    """
    if driver == "systemd":
        return f"{SLICE_PREFIX}{run_id[:8]}_{owner_mark()}_{number}.slice"
    return f"/{CGROUP_PREFIX}{run_id[:8]}-{owner_mark()}-{number}"


def leased_name(driver: str | None, uid: int, number: int) -> str:
    """Return the name of a leased parent. It differs from a run's name, because `u` is not a hexadecimal digit."""
    if driver == "systemd":
        return f"{SLICE_PREFIX}u{uid}_{number}.slice"
    return f"/{CGROUP_PREFIX}u{uid}-{number}"


# ---------------------------------------------------------------- removal


def remove(paths: cgroups.CgroupPaths) -> bool:
    """Remove a cgroup, and return whether nothing of it remains. A slice is stopped by systemd, which owns it."""
    slices = {folder.name for folder in paths.folders if folder.name.endswith(".slice")}
    if slices:
        systemd_slices.stop_slices(slices)
    return cgroups.remove(paths)


# ---------------------------------------------------------------- leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The exclusive use of a slot number among all runs of this user, until its release or this process's end."""

    number: int
    path: Path
    descriptor: int

    def release(self) -> None:
        """Release the number; the last release also removes the folder."""
        with suppress(OSError):
            self.path.unlink()  # first: a process that has opened it then finds another file, or none, there
        os.close(self.descriptor)
        with suppress(OSError):
            self.path.parent.rmdir()


def lease_folder(user: int | None = None) -> Path:
    """Return the folder for the leases of a user, by default of this one.

    It must not depend on TMPDIR or the login session, because all runs of the user share it.
    """
    return Path("/tmp") / f"orch-u{os.geteuid() if user is None else user}"  # noqa: S108 - checked below to be this user's alone


def lease_parent(driver: str | None, version: int, folder: Path | None = None) -> SlotParent | None:
    """Return the first free parent of this user; None if the folder is not this user's, or all are taken.

    A parent with processes in it is skipped: the lock of a killed run is free before its container has ended.
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
    """Return the lease of this number, or None if it is taken. Raises OSError if the folder cannot be used."""
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
            continue  # the release of the last lease has just removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return Lease(number=number, path=path, descriptor=descriptor)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)  # it was released between open and lock: try the new file

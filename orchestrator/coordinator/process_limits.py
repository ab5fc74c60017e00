"""What this process itself is granted: open files, processes, file size, address space, room for temporary files.

A run that meets such a limit in the middle loses what it was about to do; so it is refused before anything is
started, with the number that it needs. The figures are measured, with a margin
(docs/design/coordinator/process-limits.md).
"""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.agent.artifacts import archive_cap_bytes
from orchestrator.errors import UsageError
from orchestrator.text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model.profiles import Profile

FILES, FILES_PER_SLOT = 64, 32
"""Most that were open on 2 CPUs at -j 1, 2, 4, 8: 51, 72, 95, 131 in fresh slots, 38, 63, 114, 214 in reused
ones.
"""
TASKS, TASKS_PER_SLOT = 24, 2
"""Threads at -j 1 and 8: 9 and 17; the watchdog and the build of an image come to it."""
ADDRESS_BYTES, ADDRESS_BYTES_PER_SLOT = 768 << 20, 96 << 20
"""Address space at -j 1, 2, 4, 8: 641, 713, 929, 1197 MiB, of which little is ever used."""
MANY_TASKS = 1 << 16
"""A limit on tasks from which on the tasks of the user are not counted."""
DATABASE_BYTES = 64 << 20
"""The number of bytes that a run may add to the database."""
TEMPORARY_BYTES, TEMPORARY_FILES = 1 << 20, 64


def most_slots() -> int:
    """How many slots the limits of this process allow where nobody asked for a number."""
    files = _hard(resource.RLIMIT_NOFILE) - FILES
    address = _hard(resource.RLIMIT_AS) - ADDRESS_BYTES
    slots = min(files // FILES_PER_SLOT, address // ADDRESS_BYTES_PER_SLOT)
    if os.geteuid() != 0 and _hard(resource.RLIMIT_NPROC) < MANY_TASKS:
        slots = min(slots, (_hard(resource.RLIMIT_NPROC) - _tasks_of_user() - TASKS) // TASKS_PER_SLOT)
    return max(1, slots)


def _hard(kind: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return 1 << 62 if hard == resource.RLIM_INFINITY else hard


def require_process_limits(slots: int, *, profiles: Iterable[Profile], state_dir: Path) -> None:
    """Raise the soft limits as far as is needed. UsageError: this process cannot have what `slots` tests at once
    need.
    """
    fewer = ", or a lower -j" if slots > 1 else ""
    at_once = f"{slots} tests at once need" if slots > 1 else "a test needs"
    _require_limit(resource.RLIMIT_NOFILE, FILES + FILES_PER_SLOT * slots, f"n: {at_once} {{}} open files", fewer)
    address = ADDRESS_BYTES + ADDRESS_BYTES_PER_SLOT * slots
    _require_limit(resource.RLIMIT_AS, address, f"v: {at_once} {{}} KiB of address space", fewer, unit=1024)
    if os.geteuid() != 0 and resource.getrlimit(resource.RLIMIT_NPROC)[1] < MANY_TASKS:  # root is not counted
        tasks = _tasks_of_user() + TASKS + TASKS_PER_SLOT * slots
        text = f"u: {at_once} {{}} processes and threads of this user"
        _require_limit(resource.RLIMIT_NPROC, tasks, text, fewer)
    largest = _largest_file(profiles, state_dir)
    smaller = ", or smaller limits of logs and outputs"
    _require_limit(resource.RLIMIT_FSIZE, largest, "f: a run needs {} KiB a file", smaller, unit=1024)
    _require_temporary_room()


def _require_limit(kind: int, needed: int, text: str, otherwise: str, *, unit: int = 1) -> None:
    """`text`: the letter of the shell's ulimit, and what needs how many of it."""
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        wanted = _roomy(needed, hard) if kind == resource.RLIMIT_NOFILE else needed
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (wanted, hard))
            return
    number = -(-needed // unit)
    raise UsageError(
        f"ulimit -{text.format(number)}, and orch may have {soft // unit}",
        remedy=f"run it with ulimit -{text[0]} {number}{otherwise}",
    )


def _roomy(needed: int, hard: int) -> int:
    """What other parts of a large machine's run may want besides, where it is to be had."""
    wanted = max(needed, 8192)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _largest_file(profiles: Iterable[Profile], state_dir: Path) -> int:
    sizes = [DATABASE_BYTES]
    for profile in profiles:
        sizes += [profile.limits.log_bytes, archive_cap_bytes(profile.limits.outputs_bytes)]
    with suppress(OSError):
        sizes.append((state_dir / "resources.db").stat().st_size + DATABASE_BYTES)
    return max(sizes)


def _tasks_of_user() -> int:
    """Threads of all processes of this user, which the limit counts."""
    count, user = 0, os.getuid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == user:
                    count += (entry / "task").stat().st_nlink - 2
    return count


def _require_temporary_room() -> None:
    remedy = "make room there, or set TMPDIR to a folder that has it"
    try:
        folder = tempfile.gettempdir()
        found = os.statvfs(folder)
    except OSError as error:
        raise UsageError(
            f"no folder for temporary files can be used: {error.strerror or error}", remedy=remedy
        ) from error
    free = found.f_bavail * found.f_frsize
    if free < TEMPORARY_BYTES or (found.f_files and found.f_favail < TEMPORARY_FILES):
        raise UsageError(
            f"{folder} has {format_bytes(free)} and {found.f_favail} files free; a run needs"
            f" {format_bytes(TEMPORARY_BYTES)} and {TEMPORARY_FILES} files",
            remedy=remedy,
        )


def process_limit_error(error: BaseException) -> UsageError | None:
    """What an error says of a limit of this process, if it does: for where no one could ask before."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.EMFILE, errno.ENFILE):
            return UsageError(
                f"ulimit -n: this process may have {limit} open files, which is too few",
                remedy=f"run it with more: ulimit -n {FILES + FILES_PER_SLOT * 8}",
            )
        if isinstance(seen, MemoryError):
            return UsageError("there is not enough memory for orch itself", remedy="see ulimit -v, and free -m")
        if isinstance(seen, RuntimeError) and "can't start new thread" in str(seen):
            return UsageError(
                "no thread can be started", remedy="see ulimit -u, ulimit -v, and pids.max of the cgroup"
            )
        seen = seen.__cause__ or seen.__context__
    return None

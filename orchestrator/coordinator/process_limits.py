"""Check the limits of this process: open files, processes, file size, address space, temporary files.

A run that reaches such a limit fails in the middle. It is therefore refused before anything is started, with the
number that it needs. The figures are measured and have a margin (docs/design/coordinator/process-limits.md).
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
"""The number of open files. Measured on 2 CPUs at -j 1, 2, 4, 8: at most 51, 72, 95, 131 with fresh slots, and
38, 63, 114, 214 with reused slots.
"""
TASKS, TASKS_PER_SLOT = 24, 2
"""The number of threads and processes. Measured threads at -j 1 and 8: 9 and 17, to which the watchdog and the
build of an image are added.
"""
ADDRESS_BYTES, ADDRESS_BYTES_PER_SLOT = 768 << 20, 96 << 20
"""The address space in bytes. Measured at -j 1, 2, 4, 8: 641, 713, 929, 1197 MiB, of which little is used."""
MANY_TASKS = 1 << 16
"""The tasks of the user are counted only if the limit on tasks is lower than this."""
DATABASE_BYTES = 64 << 20
"""The number of bytes that a run may add to the database."""
TEMPORARY_BYTES, TEMPORARY_FILES = 1 << 20, 64


def most_slots() -> int:
    """Return how many slots the limits of this process allow, at least 1; for runs without a given number."""
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
    """Raise the soft limits of this process as far as `slots` tests at once need.

    Raises UsageError if a hard limit, or the room for temporary files, is too small.
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
    """Raise one soft limit to `needed` if it is lower. Raises UsageError if that fails.

    `text` is the letter of the shell's ulimit and a sentence with `{}` for the number, which is given in `unit`.
    """
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        wanted = _with_reserve(needed, hard) if kind == resource.RLIMIT_NOFILE else needed
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (wanted, hard))
            return
    number = -(-needed // unit)
    raise UsageError(
        f"ulimit -{text.format(number)}, but the limit of orch is {soft // unit}",
        remedy=f"run orch with ulimit -{text[0]} {number}{otherwise}",
    )


def _with_reserve(needed: int, hard: int) -> int:
    """Return a limit of open files with a reserve for other parts of a large run, as far as `hard` allows."""
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
    """Return the number of threads of all processes of this user, which is what the limit counts."""
    count, user = 0, os.getuid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == user:
                    count += (entry / "task").stat().st_nlink - 2
    return count


def _require_temporary_room() -> None:
    remedy = "free space there, or set TMPDIR to a folder on another disk"
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
    """Return an error for the user if a limit of this process caused `error`, else None.

    Not every limit can be checked before the run.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.EMFILE, errno.ENFILE):
            return UsageError(
                f"ulimit -n: this process may have {limit} open files, which is too few",
                remedy=f"run orch with more: ulimit -n {FILES + FILES_PER_SLOT * 8}",
            )
        if isinstance(seen, MemoryError):
            return UsageError("there is not enough memory for orch itself", remedy="see ulimit -v, and free -m")
        if isinstance(seen, RuntimeError) and "can't start new thread" in str(seen):
            return UsageError(
                "no thread can be started", remedy="see ulimit -u, ulimit -v, and pids.max of the cgroup"
            )
        seen = seen.__cause__ or seen.__context__
    return None

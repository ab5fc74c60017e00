"""Signals a container's processes from outside, where its cgroup can be read and we are root.

Starting `kill` inside by the engine's exec is charged to the test: 12 to 25 ms of CPU time, measured, because
runc enters the test's cgroup first. And it needs room for a process, which a test at its pids limit leaves none.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from orchestrator.measure.cgroups import process_ids, read_text

if TYPE_CHECKING:
    from orchestrator.measure.cgroups import CgroupPaths

_SWEEPS = 3
"""A process that is forked while the others are signalled is found by the next sweep."""


def signal_all(paths: CgroupPaths, name: str) -> bool:
    """Send TERM or KILL to each process of a cgroup but the first of its pid namespace, like `kill -NAME -1`
    there. True if it reached one; False where another way must be taken.
    """
    if os.geteuid() != 0 or not hasattr(os, "pidfd_open"):
        return False
    reached: set[int] = set()
    for _ in range(_SWEEPS):
        new = _sweep(paths, signal.Signals[f"SIG{name}"], reached)
        if not new:
            break
        reached |= new
    return bool(reached)


def _sweep(paths: CgroupPaths, number: signal.Signals, reached: set[int]) -> set[int]:
    """Pids that were reached now. A descriptor stays with its process, so one that was opened before the
    process was seen in the cgroup once more is of that process, or of one that has ended: never of a stranger
    that got its pid.
    """
    opened: dict[int, int] = {}
    new: set[int] = set()
    try:
        for pid in process_ids(paths):
            if pid > 0 and pid not in reached and not _is_first(pid):
                try:
                    opened[pid] = os.pidfd_open(pid)
                except OSError:  # it has ended
                    continue
        for pid in opened.keys() & set(process_ids(paths)):
            try:
                signal.pidfd_send_signal(opened[pid], number)
            except OSError:
                continue
            new.add(pid)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    return new


def _is_first(pid: int) -> bool:
    """True for process 1 of a pid namespace, and for one of our own namespace, which is no container's."""
    for line in (read_text(f"/proc/{pid}/status") or "").splitlines():
        if line.startswith("NSpid:"):
            pids = line.split()[1:]
            return len(pids) < 2 or pids[-1] == "1"
    return True

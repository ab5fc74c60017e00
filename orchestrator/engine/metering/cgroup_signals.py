"""Sends signals to a container's processes from outside, if its cgroup can be read and orch runs as root.

To run `kill` inside by the engine's exec call would be charged to the test: 12 to 25 ms of CPU time, measured,
because runc enters the test's cgroup first. It would also fail if the test is at its pids limit.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from orchestrator.measure.cgroups import process_ids, read_text

if TYPE_CHECKING:
    from orchestrator.measure.cgroups import CgroupPaths

_SWEEPS = 3
"""The number of passes over the cgroup: a process that is forked during one is found by the next."""


def signal_all(paths: CgroupPaths, name: str) -> bool:
    """Send TERM or KILL to each process of a cgroup except process 1 of its pid namespace, like `kill -NAME -1`.

    Return whether a process was reached; if not, the signal must be sent in another way.
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
    """Signal the processes that are not in `reached`, and return the pids of those that were reached.

    Each pidfd is opened before the pid is read from the cgroup a second time. So it refers to that process, or to
    one that has ended, but never to a process of another container with a recycled pid.
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
    """Return True for process 1 of a pid namespace, and for a process of orch's own namespace."""
    for line in (read_text(f"/proc/{pid}/status") or "").splitlines():
        if line.startswith("NSpid:"):
            pids = line.split()[1:]
            return len(pids) < 2 or pids[-1] == "1"
    return True

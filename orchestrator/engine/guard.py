"""Whether process 1 of a reused container is still as it was: what a test may do to it as the same user, its
children would inherit. Resource limits, priority and CPU affinity, seen from outside. (The memory killer's score a
test cannot change: the file is root's, as all of a process that is not dumpable. The agent itself changes it for a
moment when a test begins.)
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

_FILES = ("limits",)


class Guard:
    """Of one process 1, from its start on. Close it."""

    def __init__(self, pid: int) -> None:
        """OSError: the process is gone, or this system cannot watch it."""
        self._pid = pid
        self._descriptors: list[int] = []
        self._process = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._process, select.POLLIN)
        try:
            for name in _FILES:
                self._descriptors.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC))
            self._first = self._seen()
        except BaseException:
            self.close()
            raise

    def _seen(self) -> tuple[object, ...]:
        texts = (os.pread(descriptor, 4096, 0) for descriptor in self._descriptors)
        return (*texts, os.getpriority(os.PRIO_PROCESS, self._pid), os.sched_getaffinity(self._pid))

    @property
    def alive(self) -> bool:
        """The kernel's word that the container's process 1 has not ended."""
        return not self._poll.poll(0)

    @property
    def unchanged(self) -> bool:
        """False also once it has ended."""
        try:
            return self._seen() == self._first
        except OSError:
            return False

    def kill(self) -> None:
        """End it, and its container with it, if we may: the engine, which is told next, finds it ended already."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        for descriptor in (*self._descriptors, self._process):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._descriptors, self._process = [], -1

"""Checks group 14: searches for the marks of another container in all places that could be shared."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import time
from typing import Any

from orchestrator.engine.self_test.probes.common import say

LIBC = ctypes.CDLL(None, use_errno=True)
IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0


class Markers:
    """The marks of one container: files, System V objects, a message queue, a lock and an abstract socket."""

    def __init__(self, name: str, key: int) -> None:
        self.name = name
        self.key = key
        self._open: list[Any] = []
        self._segment = -1

    def make(self) -> None:
        """Make the marks. Raises OSError if one cannot be made; nothing would be proven then."""
        for folder in ("/tmp", "/dev/shm", "/dev/mqueue"):
            os.close(os.open(folder + "/" + self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._segment = LIBC.shmget(self.key, 4096, IPC_CREAT | IPC_EXCL | 0o600)
        if self._segment < 0 or LIBC.msgget(self.key, IPC_CREAT | IPC_EXCL | 0o600) < 0:
            raise OSError(ctypes.get_errno(), "no System V object could be made")
        bound = socket.socket(socket.AF_UNIX)
        bound.bind("\0" + self.name)
        bound.listen(1)
        locked = os.open("/tmp/orch-lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._open += [bound, locked]

    def remove(self) -> None:
        """Remove the marks that would outlive this process."""
        for folder in ("/tmp", "/dev/shm", "/dev/mqueue"):
            os.unlink(folder + "/" + self.name)
        os.unlink("/tmp/orch-lock")
        LIBC.shmctl(self._segment, IPC_RMID, None)
        LIBC.msgctl(LIBC.msgget(self.key, 0), IPC_RMID, None)


def seen(name: str, key: int) -> list[str]:
    """Return the places in which marks of that name are visible."""
    found = [f for f in ("/tmp", "/dev/shm", "/dev/mqueue") if os.path.exists(f + "/" + name)]
    if LIBC.shmget(key, 0, 0) >= 0:
        found.append("System V shared memory")
    if LIBC.msgget(key, 0) >= 0:
        found.append("System V message queues")
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect("\0" + name)
            found.append("abstract sockets")
        except OSError:
            pass
    return found


def side_by_side(expected: dict[str, Any], markers: Markers) -> None:
    """Search for the other container's marks at the time `expected["look_at"]`, while both have their marks."""
    made = time.time()
    time.sleep(max(0.0, expected["look_at"] - time.time()))
    looked = time.time()
    theirs = seen(expected["other"], expected["other_key"])
    ours = seen(markers.name, markers.key)
    time.sleep(max(0.0, expected["hold_until"] - time.time()))
    times = "made %.3f looked %.3f held %.3f" % (made, looked, time.time())
    say(14, "nothing of a second container is seen", not theirs, (", ".join(theirs) or "nothing") + "; " + times)
    say(14, "control: its own marks are seen", len(ours) == 6, ", ".join(ours))

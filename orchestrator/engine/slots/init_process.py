"""Checks from outside whether a reused container is still as it was before its first test.

It checks the attributes that a test inherits from process 1, or from the process that it is forked from, and the
folders that it may write to. A test runs as the user of these processes, so the kernel lets it change them, and
the next test would inherit the change. Any user of this machine can read these attributes, except the modes of the
folders, which only root can read.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import signal
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FILES = {"limits": "resource limits", "autogroup": "autogroup's priority"}
"""The description of each file of a process's folder under /proc that is compared. A kernel may lack the second.
The core dump filter and OOM score need no check: those of a process that is not dumpable belong to root.
"""
_SYSCALLS = {"x86_64": (315, 252)}
_OTHER_SYSCALLS = (275, 31)
"""The numbers of the system calls sched_getattr and ioprio_get, which Python does not offer: on x86-64, and on the
architectures with the kernel's generic table (arm64, riscv64, loongarch64).
"""
_ATTRIBUTES_BYTES = 56
_IOPRIO_WHO_PROCESS = 1
_AGENTS_BITS = stat.S_IRWXU | stat.S_ISVTX | stat.S_ISUID | stat.S_ISGID
_FS_IOC_GETFLAGS = 0x80086601

# Unlike CDLL, this keeps the interpreter lock: these calls take less time than acquiring the lock again may.
_libc = ctypes.PyDLL(None, use_errno=True)


class ProcessMonitor:
    """The attributes of one process that its children inherit."""

    def __init__(self, pid: int) -> None:
        """Open the files of a process. Raises OSError if it has ended, or cannot be monitored on this system."""
        self._pid = pid
        self._files: dict[str, int] = {}
        self._attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
        self._get_attributes, self._get_ioprio = _SYSCALLS.get(platform.machine(), _OTHER_SYSCALLS)
        try:
            for name in _FILES:
                with suppress(FileNotFoundError):
                    self._files[name] = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def state(self) -> dict[str, object]:
        """Return the attributes by their names in messages. Raises OSError if the process has ended."""
        found: dict[str, object] = {
            _FILES[name]: os.pread(descriptor, 4096, 0) for name, descriptor in self._files.items()
        }
        self._call(self._get_attributes, self._pid, self._attributes, _ATTRIBUTES_BYTES, 0)
        found["scheduling policy or priority"] = self._attributes.raw
        found["CPU affinity"] = os.sched_getaffinity(self._pid)
        found["I/O priority"] = self._call(self._get_ioprio, _IOPRIO_WHO_PROCESS, self._pid)
        return found

    @staticmethod
    def _call(number: int, *arguments: object) -> int:
        result = int(_libc.syscall(number, *arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def close(self) -> None:
        """Close the descriptors. May be called twice."""
        for descriptor in self._files.values():
            with suppress(OSError):
                os.close(descriptor)
        self._files = {}


class FolderMonitor:
    """The modes, owners, extended attributes (with access lists) and flags of a container's folders.

    Folders that this user may not access are not monitored.
    """

    def __init__(self, pid: int, folders: Sequence[str]) -> None:
        """Open those of `folders` (paths inside the container) that root does not own."""
        self._descriptors: dict[str, int] = {}
        for place in folders:
            with suppress(OSError):
                path = f"/proc/{pid}/root{place}"
                if os.stat(path).st_uid != 0:  # noqa: PTH116 - root's own nobody can change who is not root
                    self._descriptors[place] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._first = {place: self._seen(descriptor) for place, descriptor in self._descriptors.items()}

    @staticmethod
    def _seen(descriptor: int) -> tuple[int, tuple[object, ...]]:
        """Return the bits of the mode that the agent can see too, and all other attributes."""
        info = os.fstat(descriptor)
        attributes: list[object] = []
        flags = b""
        with suppress(OSError):  # a file system may have no flags
            attributes = [(name, os.getxattr(descriptor, name)) for name in os.listxattr(descriptor)]
        with suppress(OSError):
            flags = fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, b"\0" * 8)
        mode = stat.S_IMODE(info.st_mode)
        return mode & _AGENTS_BITS, (mode & ~_AGENTS_BITS, info.st_uid, info.st_gid, attributes, flags)

    def changed(self) -> tuple[str, ...]:
        """Return the folders that have changed in a way that the agent does not reset.

        The agent resets the changes that it can see before the next test begins. So a change of those belongs to
        the next test.
        """
        found = []
        for place, descriptor in self._descriptors.items():
            seen, first = self._seen(descriptor), self._first[place]
            if seen[0] == first[0] and seen[1] != first[1]:
                found.append(place)
        return tuple(found)

    def close(self) -> None:
        """Close the descriptors. May be called twice."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}


class InitProcessMonitor:
    """Monitors one container, starting before its first test. Close it."""

    def __init__(self, pid: int, folders: Sequence[str] = ()) -> None:
        """Read the first state of process 1 (`pid` on this machine), and of the `folders` that tests may write to.

        Raises OSError if the process has ended, or cannot be monitored on this system.
        """
        self._pid = pid
        self._process = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._process, select.POLLIN)
        self._server_pids = ""
        self._servers: list[ProcessMonitor] = []
        self._agent: ProcessMonitor | None = None
        self._folders: FolderMonitor | None = None
        try:
            self._agent = ProcessMonitor(pid)
            self._first = self._agent.state()
            self._folders = FolderMonitor(pid, folders)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """True if the container's process 1 still runs, according to the kernel."""
        return not self._poll.poll(0)

    def changed(self, server_pids: str = "") -> str | None:
        """Return a description of the inherited attribute that has changed, None if none has.

        `server_pids` are the processes that tests are forked from, by their pids inside the container. These have
        the attributes of process 1 when they start, or refuse to serve (preload_server.py).
        """
        try:
            if self._agent is None:
                return "process 1, which has ended"
            found = _difference(self._first, self._agent.state())
        except OSError:
            return "process 1, which has ended"
        if found is not None:
            return f"the {found} of process 1"
        if server_pids != self._server_pids and not self._find(server_pids):
            return "what tests are forked from, which cannot be monitor on this kernel"
        for server in self._servers:
            with suppress(OSError):  # ended: another one replaces it, or the next test reports its end
                found = _difference(self._first, server.state())
            if found is not None:
                return f"the {found} of a process that tests are forked from"
        return None

    def changed_folders(self) -> tuple[str, ...]:
        """Return the folders whose modes, owners or attributes have changed, as far as this user may see them."""
        return () if self._folders is None else self._folders.changed()

    def _find(self, server_pids: str) -> bool:
        """Start to monitor these processes; return False if this kernel does not list a process's children.

        A process that is not found has ended: a later test may have replaced it.
        """
        for server in self._servers:
            server.close()
        self._servers, self._server_pids = [], server_pids
        wanted = set(server_pids.split())
        if not wanted:
            return True
        for pid in _descendants(self._pid, 2):
            if _number_inside(pid) in wanted:
                with suppress(OSError):
                    self._servers.append(ProcessMonitor(pid))
        return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110 - quicker

    def kill(self) -> None:
        """Kill process 1, and so its container, if this user may. Its removal by the engine is then quicker."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptors. May be called twice."""
        for monitor in (*self._servers, self._agent, self._folders):
            if monitor is not None:
                monitor.close()
        if self._process >= 0:
            with suppress(OSError):
                os.close(self._process)
        self._servers, self._agent, self._folders, self._process = [], None, None, -1


def _difference(first: dict[str, object], now: dict[str, object]) -> str | None:
    if first == now:
        return None
    return next(name for name in (*first, *now) if first.get(name) != now.get(name))


def _descendants(pid: int, generations: int) -> Iterator[int]:
    """Yield the pids of a process's descendants, down to this number of generations."""
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123 - quicker
        for word in file.read().split():
            yield int(word)
            if generations > 1:
                yield from _descendants(int(word), generations - 1)


def _number_inside(pid: int) -> str | None:
    """Return a process's pid in the innermost of its namespaces, or None if it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - quicker
        for line in file:
            if line.startswith("NSpid:"):
                return line.split()[-1]
    return None

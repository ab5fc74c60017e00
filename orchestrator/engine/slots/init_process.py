"""Whether a reused container is still as it was before its first test, as far as that can be seen from outside.
That is what each test inherits from process 1, or from the processes that it is forked from, and the places that
it may write to.

A test has the user of these processes, so the kernel lets it change them: what it changed, its successor would
have. All of it can be read by any user of this machine, save the places' modes, which only root sees.
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
"""In a process's folder under /proc, and what the user is told they hold. A kernel may lack the second. Core dump
filter and the memory killer's score are files that are root's for a process that is not dumpable, as these are.
"""
_SYSCALLS = {"x86_64": (315, 252)}
_OTHER_SYSCALLS = (275, 31)
"""sched_getattr and ioprio_get, which Python does not have: on x86-64, and on all that the kernel's generic table
is for (arm64, riscv64, loongarch64).
"""
_ATTRIBUTES_BYTES = 56
_IOPRIO_WHO_PROCESS = 1
_AGENTS_BITS = stat.S_IRWXU | stat.S_ISVTX | stat.S_ISUID | stat.S_ISGID
_FS_IOC_GETFLAGS = 0x80086601

# keeps Python's lock, unlike CDLL: these calls take less time than getting it back can
_libc = ctypes.PyDLL(None, use_errno=True)


class ProcessMonitor:
    """One process and what is inherited from it."""

    def __init__(self, pid: int) -> None:
        """OSError: it is gone, or this system cannot watch it."""
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
        """By the names that the user is told. OSError: it has ended."""
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
        """Give the descriptors back. May be called twice."""
        for descriptor in self._files.values():
            with suppress(OSError):
                os.close(descriptor)
        self._files = {}


class FolderMonitor:
    """Folders of a container: modes, owners, extended attributes (with them access lists) and flags of the folders
    themselves. Empty for who may not look into it.
    """

    def __init__(self, pid: int, folders: Sequence[str]) -> None:
        """`folders`: as processes of the container see them."""
        self._descriptors: dict[str, int] = {}
        for place in folders:
            with suppress(OSError):
                path = f"/proc/{pid}/root{place}"
                if os.stat(path).st_uid != 0:  # noqa: PTH116 - root's own nobody can change who is not root
                    self._descriptors[place] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._first = {place: self._seen(descriptor) for place, descriptor in self._descriptors.items()}

    @staticmethod
    def _seen(descriptor: int) -> tuple[int, tuple[object, ...]]:
        """The bits of the mode that the agent sees too, and all else."""
        info = os.fstat(descriptor)
        attributes: list[object] = []
        flags = b""
        with suppress(OSError):  # a file system may have none
            attributes = [(name, os.getxattr(descriptor, name)) for name in os.listxattr(descriptor)]
        with suppress(OSError):
            flags = fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, b"\0" * 8)
        mode = stat.S_IMODE(info.st_mode)
        return mode & _AGENTS_BITS, (mode & ~_AGENTS_BITS, info.st_uid, info.st_gid, attributes, flags)

    def changed(self) -> tuple[str, ...]:
        """Those that are no longer as they were, and that the agent does not set back. What it sees it has set
        back before the next test began: then that one has changed it.
        """
        found = []
        for place, descriptor in self._descriptors.items():
            seen, first = self._seen(descriptor), self._first[place]
            if seen[0] == first[0] and seen[1] != first[1]:
                found.append(place)
        return tuple(found)

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}


class InitProcessMonitor:
    """Of one container, from before its first test on. Close it."""

    def __init__(self, pid: int, folders: Sequence[str] = ()) -> None:
        """`pid`: of its process 1; `folders`: where its tests may write. OSError: the process is gone, or this
        system cannot watch it.
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
        """The kernel's word that the container's process 1 has not ended."""
        return not self._poll.poll(0)

    def changed(self, server_pids: str = "") -> str | None:
        """What is inherited differs from what it was at first: which of it, in words. `server_pids`: numbers of
        the processes that tests are forked from, as the container sees them; they are like process 1 when they
        start, or refuse to serve (preload_server.py).
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
            with suppress(OSError):  # ended: another one takes its place, or its end is the next test's to tell
                found = _difference(self._first, server.state())
            if found is not None:
                return f"the {found} of a process that tests are forked from"
        return None

    def changed_folders(self) -> tuple[str, ...]:
        """Places whose modes, owners or attributes differ from what they were at first, for who may see that."""
        return () if self._folders is None else self._folders.changed()

    def _find(self, server_pids: str) -> bool:
        """Watch these from now on. One that is not found has ended since: a test that has begun may have replaced
        it. False: this kernel does not tell a process's children.
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
        """End it, and its container with it, if we may: the engine, which is told next, finds it ended already."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
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
    """Children of a process, and theirs."""
    with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123 - quicker
        for word in file.read().split():
            yield int(word)
            if generations > 1:
                yield from _descendants(int(word), generations - 1)


def _number_inside(pid: int) -> str | None:
    """A process's number in the innermost of its namespaces."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - quicker
        for line in file:
            if line.startswith("NSpid:"):
                return line.split()[-1]
    return None

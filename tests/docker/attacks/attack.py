"""Runs inside a container as a test: tries each way in which a process can affect another one of the same user,
and writes the kernel's answers, {target: {attack: answer}}, to answers.json among the test's outputs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
KCMP, GET_ROBUST_LIST = (272, 100) if ARM else (312, 274)
PIDFD_OPEN, PIDFD_GETFD = 434, 438
PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SEIZE = 16, 17, 0x4206
IN_ALL = 0xFFF
STREAMS = "/run/orch"
BUFFER = ctypes.create_string_buffer(b"in every process that is forked from this one, at the same address")


class Vector(ctypes.Structure):
    """The C structure `struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def checked(result: int) -> int:
    """Return the result of a libc call. Raises its error as OSError."""
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def syscall(*args: object) -> int:
    return checked(libc.syscall(*(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)))


def opened(path: str, flags: int = os.O_RDONLY) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK))


def read(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.read(descriptor, 16)
    finally:
        os.close(descriptor)


def write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def vm(call: str, pid: int) -> None:
    own, size = ctypes.create_string_buffer(64), 32
    here, there = Vector(ctypes.addressof(own), size), Vector(ctypes.addressof(BUFFER), size)
    function = getattr(libc, call)
    function.restype = ctypes.c_ssize_t
    checked(function(pid, ctypes.byref(here), ctypes.c_ulong(1), ctypes.byref(there), ctypes.c_ulong(1), 0))


def ptrace(request: int, pid: int) -> None:
    libc.ptrace.restype = ctypes.c_long
    none = ctypes.c_void_p(0)
    checked(libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), none, none))
    with contextlib.suppress(OSError):
        if request == PTRACE_ATTACH:
            os.waitpid(pid, 0x40000000)
        libc.ptrace(ctypes.c_long(PTRACE_DETACH), ctypes.c_long(pid), none, none)


def descriptor_of(pid: int) -> None:
    process = syscall(PIDFD_OPEN, pid, 0)
    try:
        os.close(syscall(PIDFD_GETFD, process, 0, 0))
    finally:
        os.close(process)


def robust_list(pid: int) -> None:
    head, length = ctypes.c_void_p(), ctypes.c_size_t()
    syscall(GET_ROBUST_LIST, pid, ctypes.byref(head), ctypes.byref(length))


def addresses(pid: int) -> str:
    """Return whether `stat` shows the addresses of code and stack."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return "shown" if any(field not in ("0", "1") for field in fields[23:27]) else "hidden"


def watched(path: str) -> None:
    watch = checked(libc.inotify_init1(0))
    try:
        checked(libc.inotify_add_watch(watch, path.encode(), IN_ALL))
    finally:
        os.close(watch)


ON_PROCESS: dict[str, Callable[[int], object]] = {
    "mem, to read and write": lambda pid: opened(f"/proc/{pid}/mem", os.O_RDWR),
    "mem of the thread": lambda pid: opened(f"/proc/{pid}/task/{pid}/mem", os.O_RDWR),
    "environ": lambda pid: read(f"/proc/{pid}/environ"),
    "environ of the thread": lambda pid: read(f"/proc/{pid}/task/{pid}/environ"),
    "auxv": lambda pid: read(f"/proc/{pid}/auxv"),
    "maps": lambda pid: read(f"/proc/{pid}/maps"),
    "smaps": lambda pid: read(f"/proc/{pid}/smaps"),
    "pagemap": lambda pid: read(f"/proc/{pid}/pagemap"),
    "syscall": lambda pid: read(f"/proc/{pid}/syscall"),
    "personality": lambda pid: read(f"/proc/{pid}/personality"),
    "io": lambda pid: read(f"/proc/{pid}/io"),
    "list fd": lambda pid: bool(os.listdir(f"/proc/{pid}/fd")) or None,
    "list fd of the thread": lambda pid: bool(os.listdir(f"/proc/{pid}/task/{pid}/fd")) or None,
    "list fdinfo": lambda pid: bool(os.listdir(f"/proc/{pid}/fdinfo")) or None,
    "list map_files": lambda pid: bool(os.listdir(f"/proc/{pid}/map_files")) or None,
    **{
        f"fd/{number}, to {what}": lambda pid, number=number, flags=flags: opened(
            f"/proc/{pid}/fd/{number}", flags
        )
        for number in (0, 3, 7, 8, 9)
        for what, flags in (("read", os.O_RDONLY), ("write", os.O_WRONLY))
    },
    "readlink fd/0": lambda pid: bool(os.readlink(f"/proc/{pid}/fd/0")) or None,
    "fdinfo/0": lambda pid: read(f"/proc/{pid}/fdinfo/0"),
    "exe": lambda pid: opened(f"/proc/{pid}/exe"),
    "readlink exe": lambda pid: bool(os.readlink(f"/proc/{pid}/exe")) or None,
    "cwd": lambda pid: bool(os.listdir(f"/proc/{pid}/cwd")) or None,
    "root": lambda pid: bool(os.listdir(f"/proc/{pid}/root")) or None,
    "root of the thread": lambda pid: bool(os.listdir(f"/proc/{pid}/task/{pid}/root")) or None,
    "ns/pid": lambda pid: bool(os.readlink(f"/proc/{pid}/ns/pid")) or None,
    "write oom_score_adj": lambda pid: write(f"/proc/{pid}/oom_score_adj", b"1000"),
    "write coredump_filter": lambda pid: write(f"/proc/{pid}/coredump_filter", b"0x33"),
    "write clear_refs": lambda pid: write(f"/proc/{pid}/clear_refs", b"1"),
    "write comm": lambda pid: write(f"/proc/{pid}/comm", b"x"),
    "write timerslack_ns": lambda pid: write(f"/proc/{pid}/timerslack_ns", b"1"),
    "stat: addresses": addresses,
    "ptrace attach": lambda pid: ptrace(PTRACE_ATTACH, pid),
    "ptrace seize": lambda pid: ptrace(PTRACE_SEIZE, pid),
    "process_vm_readv": lambda pid: vm("process_vm_readv", pid),
    "process_vm_writev": lambda pid: vm("process_vm_writev", pid),
    "pidfd_getfd": descriptor_of,
    "kcmp": lambda pid: syscall(KCMP, os.getpid(), pid, 1, 0, 0) and None,
    "get_robust_list": robust_list,
    "inotify on fd": lambda pid: watched(f"/proc/{pid}/fd"),
}

ON_STREAMS: dict[str, Callable[[], object]] = {
    "names": lambda: " ".join(sorted(os.listdir(STREAMS))),
    **{
        f"open {name}, to {what}": lambda name=name, flags=flags: opened(f"{STREAMS}/{name}", flags)
        for name in ("in", "out", "err")
        for what, flags in (("read", os.O_RDONLY), ("write", os.O_WRONLY))
    },
    "write into an order": lambda: opened(f"{STREAMS}/a", os.O_WRONLY),
    "make a file": lambda: opened(f"{STREAMS}/x", os.O_WRONLY | os.O_CREAT),
    "make in": lambda: os.mkfifo(f"{STREAMS}/in"),
    "unlink an order": lambda: os.unlink(f"{STREAMS}/a"),
    "rename an order": lambda: os.rename(f"{STREAMS}/a", f"{STREAMS}/in"),
    "chmod": lambda: os.chmod(STREAMS, 0o777),
}


def answer(attack: Callable[[], object]) -> str:
    """Return `ok`, the text that the attack returned, or the name of the error."""
    try:
        said = attack()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return said if isinstance(said, str) else "ok"


def own_child() -> int:
    """Start a child with the agent's descriptors, on which every attack works that is not refused to everybody."""
    pid = os.fork()
    if pid == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 3, 7, 8, 9):
            os.dup2(nothing, number)
        while True:
            signal.pause()
    time.sleep(0.1)
    return pid


def all_signals() -> dict[str, str]:
    """Send every signal to process 1. From inside, signals without a handler do not arrive."""
    found = {str(number): answer(lambda number=number: os.kill(1, number)) for number in range(1, 65)}
    time.sleep(0.2)
    with open("/proc/1/stat") as file:
        state = file.read().rpartition(")")[2].split()[0]
    return {"sent": " ".join(sorted(set(found.values()))), "stopped": str(state in "tTZX")}


def attack(**targets: int) -> None:
    """Try every attack and write the answers."""
    child = own_child()
    try:
        found = {
            name: {attack: answer(lambda pid=pid, call=call: call(pid)) for attack, call in ON_PROCESS.items()}
            for name, pid in {**targets, "child": child}.items()
        }
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found["streams"] = {name: answer(call) for name, call in ON_STREAMS.items()}
    found["signals"] = all_signals()
    with open("/proc/1/cmdline") as file:
        found["command line"] = {"agent": file.read()}
    with open(os.path.join(os.environ["ORCH_OUTPUT_DIR"], "answers.json"), "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    attack(agent=1)

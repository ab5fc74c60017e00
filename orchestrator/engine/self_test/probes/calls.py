"""Checks groups 4, 7 and 9: calls that must be refused, and similar calls that must work."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import socket
import struct
import threading
import time
from functools import partial
from typing import Any

from orchestrator.engine.self_test.probes.common import answer, in_child, say

MACHINE = platform.machine()
BIG = 2**64 - 1
# By `uname -m`: x86_64, aarch64.
NUMBERS = {
    "add_key": (248, 217), "bpf": (321, 280), "clock_settime": (227, 112), "clone": (56, 220),
    "init_module": (175, 105), "io_uring_setup": (425, 425), "kexec_load": (246, 104), "keyctl": (250, 219),
    "mount": (165, 40),    "open_by_handle_at": (304, 265), "perf_event_open": (298, 241),
    "pivot_root": (155, 41), "prctl": (157, 167),
    "process_vm_readv": (310, 270), "ptrace": (101, 117), "reboot": (169, 142), "sethostname": (170, 161),
    "setns": (308, 268), "swapon": (167, 224), "syslog": (103, 116), "unshare": (272, 97),
    "userfaultfd": (323, 282),
}  # fmt: skip
# name, call, arguments, answers that count as refused. The arguments do nothing even where the call is allowed:
# then another error comes, which is not among those.
REFUSED = (
    ("io_uring_setup", "io_uring_setup", (1, 0), ("ENOSYS",)),
    ("keyctl", "keyctl", (0, BIG - 2, 0), ("EPERM",)),
    ("add_key", "add_key", (b"user", b"", 0, 0, BIG - 2), ("EPERM",)),
    # no rule allows them: ENOSYS; Docker 20.10, which knows no default of the profile, says EPERM
    ("a user namespace by unshare", "unshare", (0x10000000,), ("ENOSYS", "EPERM")),
    ("a user namespace by clone", "clone", (0x10000000 | 17, 0, 0, 0, 0), ("ENOSYS", "EPERM")),
    ("mount", "mount", (b"none", b"/nowhere", b"tmpfs", 0, 0), ("EPERM",)),
    ("pivot_root", "pivot_root", (b"/nowhere", b"/nowhere"), ("EPERM",)),
    ("setns", "setns", (BIG, 0), ("EPERM",)),
    ("open_by_handle_at", "open_by_handle_at", (BIG, 0, 0), ("EPERM",)),
    ("bpf", "bpf", (0, 0, 0), ("EPERM",)),
    ("perf_event_open", "perf_event_open", (0, 0, 0, 0, 0), ("EPERM",)),
    ("userfaultfd", "userfaultfd", (1,), ("EPERM",)),
    ("init_module", "init_module", (0, 0, b""), ("EPERM",)),
    ("kexec_load", "kexec_load", (0, 0, 0, BIG), ("EPERM",)),
    ("reboot", "reboot", (0, 0, 0, 0), ("EPERM",)),
    ("swapon", "swapon", (b"/nowhere", 0), ("EPERM",)),
    ("syslog", "syslog", (10, 0, 0), ("EPERM",)),
    ("clock_settime", "clock_settime", (0, 0), ("EPERM",)),
    ("sethostname", "sethostname", (0, 4), ("EPERM",)),
    ("ptrace of process 1", "ptrace", (0x4206, 1, 0, 0), ("EPERM",)),
)
# family, type, protocol
SOCKETS = (
    ("AF_ALG", 38, 5, 0, ("EAFNOSUPPORT",)),
    ("AF_VSOCK", 40, 1, 0, ("EAFNOSUPPORT",)),
    ("AF_PACKET", 17, 3, 0, ("EAFNOSUPPORT",)),
    ("a raw socket", 2, 3, 1, ("EPERM",)),
)
LIBC = ctypes.CDLL(None, use_errno=True)


def system_call(name: str, *arguments: int | bytes) -> str:
    """Make a system call by its number, without a C library's wrapper; return `ok` or the error's name."""
    number = NUMBERS[name][0 if MACHINE == "x86_64" else 1]
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_ulong(a) for a in arguments]
    code = LIBC.syscall(ctypes.c_long(number), *words)
    return "ok" if code >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")


def privileges() -> None:
    """Check that no-new-privileges is in effect, by its consequences (group 4)."""
    kept = in_child(lambda: system_call("prctl", 38, 0, 0, 0, 0))
    say(4, "no-new-privileges cannot be taken back", kept == "EINVAL", kept)
    # without it, root alone may install a filter: EACCES
    seen = in_child(_install_filter)
    say(4, "no-new-privileges is in force", seen == "ok", "a seccomp filter of one's own: %s" % seen)
    found: list[str] = []
    for top in ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"):
        entries = os.scandir(top) if os.path.isdir(top) else ()
        found += [entry.path for entry in entries if entry.is_file() and entry.stat().st_mode & 0o6000]
    say(4, "no program of the image is setuid", not found, ", ".join(found) or "none")


def network(expected: dict[str, Any]) -> None:
    """Check that nothing outside the container can be reached (group 7)."""
    served = socket.socket()
    served.bind(("127.0.0.1", 0))
    served.listen(1)
    control = answer(lambda: socket.create_connection(served.getsockname(), timeout=1).close())
    say(7, "control: 127.0.0.1 works", control == "ok", control)
    if expected["network"] != "none":
        say(
            7,
            "nothing outside can be reached",
            None,
            "",
            "the profile asks for the network %s" % expected["network"],
        )
        return
    names = sorted(name for _, name in socket.if_nameindex())
    real = [
        n
        for n in names
        if n != "lo" and not n.startswith(("sit", "tunl", "gre", "erspan", "ip6", "ip_vti", "teql"))
    ]
    say(7, "no interface but lo", not real, ", ".join(names))
    with open("/proc/net/route") as file:
        routes = file.readlines()[1:]
    say(7, "no route", not routes, "%d routes" % len(routes))
    for name, family, address in (
        ("an IPv4 address", socket.AF_INET, "192.0.2.1"),
        ("a metadata address", socket.AF_INET, "169.254.169.254"),
        ("an IPv6 address", socket.AF_INET6, "2001:db8::1"),
    ):
        began = time.monotonic()
        seen = answer(partial(_connect, family, address))
        at_once = time.monotonic() - began < 0.5
        refused = seen in ("ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT", "EHOSTUNREACH")
        say(7, "%s cannot be reached, at once" % name, refused and at_once, seen)


def _install_filter() -> str:
    """Install a seccomp filter of one instruction that allows everything; return the answer."""
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
    program = ctypes.create_string_buffer(struct.pack("@HP", 1, ctypes.addressof(code)))
    return system_call("prctl", 22, 2, ctypes.addressof(program), 0, 0)


def _socket(family: int, kind: int, protocol: int) -> None:
    socket.socket(family, kind, protocol).close()


def _connect(family: int, address: str) -> None:
    with socket.socket(family) as made:
        made.settimeout(2)
        made.connect((address, 80))


def refused() -> None:
    """Check that dangerous system calls and sockets are refused (group 9)."""
    if MACHINE not in ("x86_64", "aarch64"):
        say(9, "calls are refused", None, "", "no call numbers are known for %s" % MACHINE)
        return
    for name, call, arguments, wanted in REFUSED:
        seen = in_child(partial(system_call, call, *arguments))
        say(9, "refused: " + name, seen in wanted, seen)
    seen = in_child(_read_process_1)
    say(9, "refused: process_vm_readv of process 1", seen == "EPERM", seen)
    for name, family, kind, protocol, wanted in SOCKETS:
        seen = answer(partial(_socket, family, kind, protocol))
        say(9, "refused: " + name, seen in wanted, seen)
    _socketcall()
    for name, family in (("AF_UNIX", 1), ("AF_INET", 2)):
        seen = answer(partial(_socket, family, 1, 0))
        say(9, "control: a socket of %s" % name, seen == "ok", seen)


def _read_process_1() -> str:
    """Try to read one byte of process 1's memory; return the answer."""
    here = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(here), 1)
    place = ctypes.addressof(vector)
    return system_call("process_vm_readv", 1, place, 1, place, 1, 0)


def _code(code: bytes) -> int:
    """Execute machine code in anonymous memory, as a JIT does, and return its result."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    made = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return int(made())


def _socketcall() -> None:
    if MACHINE != "x86_64":
        say(9, "refused: the 32-bit socketcall", None, "", "%s has none" % MACHINE)
        return
    # mov eax, 102 (socketcall); xor ebx, ebx; xor ecx, ecx; int 0x80; ret: EINVAL if it gets through
    code = bytes.fromhex("b866000000 53 31db 31c9 cd80 5b c3".replace(" ", ""))
    seen = in_child(lambda: str(_code(code)))
    # EPERM, ENOSYS, or killed: the filter has no place for calls of another architecture
    proven = seen in ("-1", "-38") or seen.startswith("ended by signal")
    say(9, "refused: the 32-bit socketcall", proven, seen)


def works() -> None:
    """Check that the calls that tests need succeed, as controls (group 9)."""
    code = bytes.fromhex("b82a000000c3" if MACHINE == "x86_64" else "40058052c0035fd6")
    seen = in_child(lambda: str(_code(code)))
    say(9, "control: memory of one's own can be executed (JIT)", seen == "42", seen)
    ran: list[int] = []
    thread = threading.Thread(target=lambda: ran.append(1))
    thread.start()
    thread.join()
    say(9, "control: threads start", ran == [1], "%d ran" % len(ran))

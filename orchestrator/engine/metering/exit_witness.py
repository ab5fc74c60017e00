"""Reads from the kernel how a test's process ended, independently of the agent: process events by netlink.

The kernel reports each process that is forked or ends, with its exit status. A filter, which the kernel runs,
passes only the children of one agent: two messages a test. The agent's first fork after the release of a test is
that test. orch must be in the first pid and network namespace, and be root before Linux 6.6.
docs/design/engine/witnesses.md has the limits.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import time
from contextlib import suppress

NETLINK_CONNECTOR = 11
PROC_EVENTS = 1
"""The value of CN_IDX_PROC, CN_VAL_PROC and PROC_CN_MCAST_LISTEN in linux/cn_proc.h."""
FORK, EXIT = 0x00000001, 0x80000000
SO_ATTACH_FILTER = 26
LATE_SECONDS = 1.0
"""The longest wait for an exit event: the kernel wakes the agent before it reports the end of its child.

Between the two the ending process may wait for a CPU, or for the next period of its CPU limit (0.1 s).
"""

_NETLINK, _CONNECTOR, _EVENT = struct.Struct("=IHHII"), struct.Struct("=IIIIHHI"), struct.Struct("=IIQ6I")
_WHAT = _NETLINK.size + 20
_DATA = _WHAT + 16
"""The offsets of an event's kind, and of its data, in a message."""
_LOAD, _COPY, _JUMP_EQUAL, _JUMP_EQUAL_COPY, _RETURN = 0x20, 0x07, 0x15, 0x1D, 0x06


class ExitWitness:
    """Receives the exit codes of the tests that one agent starts. Close it."""

    def __init__(self, agent_pid: int) -> None:
        """Start to receive events. Raises OSError if this kernel or this user cannot receive them."""
        self._agent = agent_pid
        self._test: int | None = None
        self._status: int | None = None
        self._threads = False
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR
        )
        try:
            self._socket.bind((0, PROC_EVENTS))
            program = _filter(agent_pid)
            held = ctypes.create_string_buffer(program)
            self._socket.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program) // 8, ctypes.addressof(held))
            )
            listen = _CONNECTOR.pack(PROC_EVENTS, PROC_EVENTS, 0, 0, 4, 0, 1)
            self._socket.send(_NETLINK.pack(_NETLINK.size + len(listen), 3, 0, 0, os.getpid()) + listen)
        except BaseException:
            self._socket.close()
            raise

    def begin(self) -> None:
        """Treat the next process that the agent forks as a test. Call it before that test is released."""
        self._read()
        self._forget()

    def _forget(self) -> None:
        self._test = self._status = None
        self._threads = False

    def exit_code(self, reported: int | None) -> int | None:
        """Return the exit code, as a shell reports it, of the test since `begin`; None if there was no event.

        The test has ended. If the code is not the one that the agent `reported`, a late event is awaited.
        """
        self._read()
        deadline = time.monotonic() + LATE_SECONDS
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while self._is_expected(reported) and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self._read()
        # the event is of the first thread, which may have ended before the other threads of the process
        return None if self._threads and self._code != reported else self._code

    def _is_expected(self, reported: int | None) -> bool:
        """Return whether an event of the test may still arrive that changes its exit code."""
        if self._test is None:
            return False
        return self._status is None or (reported is not None and self._code != reported)

    @property
    def _code(self) -> int | None:
        if self._status is None:
            return None
        signal_number = self._status & 0x7F
        return 128 + signal_number if signal_number else self._status >> 8 & 0xFF

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    message = self._socket.recv(4096)
                except BlockingIOError:
                    raise
                except OSError:  # the socket's buffer has overflowed: it is unknown which events are lost
                    self._forget()
                    continue
                self._note(message)

    def _note(self, message: bytes) -> None:
        if len(message) < _WHAT + _EVENT.size - 8:
            return
        what, _, _, *data = _EVENT.unpack_from(message.ljust(_WHAT + _EVENT.size, b"\0"), _WHAT)
        if what == FORK and data[1] == self._agent and self._test is None:
            self._test = data[3]
        elif what == FORK and data[3] == self._test:
            self._threads = True
        elif what == EXIT and self._test is not None and data[1] == self._test:
            self._status = data[2]

    def close(self) -> None:
        """Stop receiving events. May be called twice."""
        self._socket.close()


def _filter(parent: int) -> bytes:
    """Return a filter program for the kernel that passes forks by that process, and ends of its children.

    Ends of processes without a parent pass too: a process has none if its parent reaps it before the kernel
    reports its end, which happens if it loses the CPU in between. Ends of threads never have one, and do not pass.
    """
    steps = (
        (_LOAD, 0, 0, _WHAT),
        (_JUMP_EQUAL, 0, 2, _swapped(FORK)),
        (_LOAD, 0, 0, _DATA + 4),  # of a fork: the parent's pid
        (_JUMP_EQUAL, 8, 9, _swapped(parent)),
        (_JUMP_EQUAL, 0, 8, _swapped(EXIT)),
        (_LOAD, 0, 0, _DATA + 20),  # of an end: the parent's pid
        (_JUMP_EQUAL, 5, 0, _swapped(parent)),
        (_JUMP_EQUAL, 0, 5, 0),
        (_LOAD, 0, 0, _DATA),  # of an end: the thread's id, then its process's
        (_COPY, 0, 0, 0),
        (_LOAD, 0, 0, _DATA + 4),
        (_JUMP_EQUAL_COPY, 0, 1, 0),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _swapped(value: int) -> int:
    """Return the value with its bytes in network order, in which filters read the numbers of events."""
    return int(struct.unpack(">I", struct.pack("=I", value))[0])

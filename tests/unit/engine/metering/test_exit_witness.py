"""The kernel's filter of process events, run by the kernel on events that are written by hand."""

from __future__ import annotations

import ctypes
import socket
import struct

import pytest

from orchestrator.engine.metering import exit_witness
from orchestrator.engine.metering.exit_witness import EXIT, FORK

AGENT, TEST, OTHER = 100, 200, 300
EXEC = 0x00000002


def event(what: int, *data: int) -> bytes:
    """Return a message of the process connector: netlink header, connector header, kind, and 32-bit numbers."""
    padded = [*data, *[0] * (6 - len(data))]
    body = struct.pack("=IIQ6I", what, 0, 0, *padded)
    connector = struct.pack("=IIIIHH", 1, 1, 0, 0, len(body), 0)
    return struct.pack("=IHHII", 16 + len(connector) + len(body), 3, 0, 0, 0) + connector + body


@pytest.mark.parametrize(
    ("message", "passes"),
    [
        (event(FORK, AGENT, AGENT, TEST, TEST), True),
        (event(FORK, OTHER, OTHER, TEST, TEST), False),
        (event(EXIT, TEST, TEST, 7 << 8, 17, AGENT, AGENT), True),
        (event(EXIT, TEST, TEST, 7 << 8, 17, OTHER, OTHER), False),
        # reaped before the kernel reported it: it has no parent any more
        (event(EXIT, TEST, TEST, 7 << 8, 17, 0, 0), True),
        (event(EXIT, TEST + 1, TEST, 0, 17, 0, 0), False),
        (event(EXEC, TEST, TEST), False),
    ],
    ids=[
        "fork of the agent",
        "fork of another",
        "end of a child",
        "end of another child",
        "end without parent",
        "end of a thread",
        "exec",
    ],
)
def test_events_that_pass(message: bytes, passes: bool) -> None:
    program = exit_witness._filter(AGENT)
    held = ctypes.create_string_buffer(program)
    writer, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with writer, reader:
        reader.setblocking(False)
        attached = struct.pack("HL", len(program) // 8, ctypes.addressof(held))
        reader.setsockopt(socket.SOL_SOCKET, exit_witness.SO_ATTACH_FILTER, attached)
        writer.send(message)
        if passes:
            assert reader.recv(4096) == message
        else:
            with pytest.raises(BlockingIOError):
                reader.recv(4096)

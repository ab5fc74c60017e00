"""Has systemd stop the slices that slots ran in, by one D-Bus message each on its private socket.

`systemctl stop` does the same but costs more CPU time than a small test (docs/design/cgroups.md); it is used if
the socket does not answer. The wire format is that of the D-Bus specification, Message Protocol and
Authentication.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PRIVATE_SOCKET = "/run/systemd/private"
"""The socket of PID 1, for root. It is no bus, so no name is requested or addressed."""
BOOTED = Path("/run/systemd/system")
"""Exists where systemd is the init system, says sd_booted(3)."""
ANSWER_SECONDS = 5.0
STOP_SECONDS = 30.0
_METHOD_RETURN = 2
_HEADER_BYTES = 16


def stop_slices(names: Iterable[str]) -> None:
    """Stop and unload these units, with what runs in them; it may not be done yet when this returns."""
    wanted = sorted(names)
    if not wanted:
        return
    try:
        _stop_by_socket(wanted)
    except (OSError, ValueError):
        _stop_by_program(wanted)


def _stop_by_socket(names: list[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(PRIVATE_SOCKET)
        connection.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        if not _line(connection).startswith(b"OK "):
            raise ValueError("refused")
        connection.sendall(b"BEGIN\r\n")
        for serial, name in enumerate(names, 1):
            connection.sendall(stop_message(name, serial))
            if not _answered(connection, serial):
                raise ValueError(f"{name} was not stopped")


def _stop_by_program(names: list[str]) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["systemctl", "--quiet", "--no-block", "stop", *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=STOP_SECONDS,
        )


def stop_message(name: str, serial: int) -> bytes:
    """Return the call StopUnit(name, "replace") as a little-endian D-Bus message."""
    body = _string(name)
    body = _aligned(body, 4) + _string("replace")
    fields = b""
    for code, kind, value in (
        (1, b"o", "/org/freedesktop/systemd1"),
        (2, b"s", "org.freedesktop.systemd1.Manager"),
        (3, b"s", "StopUnit"),
    ):
        fields = _aligned(fields, 8) + bytes((code, 1)) + kind + b"\0" + _string(value)
    fields = _aligned(fields, 8) + b"\x08\x01g\0\x02ss\0"  # the body's signature
    head = struct.pack("<cBBBIII", b"l", 1, 0, 1, len(body), serial, len(fields))
    return _aligned(head + fields, 8) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def _aligned(data: bytes, to: int) -> bytes:
    return data + b"\0" * (-len(data) % to)


def _answered(connection: socket.socket, serial: int) -> bool:
    """Read messages up to the reply of this call; return whether it is no error. Signals may come before it."""
    while True:
        head = _exactly(connection, _HEADER_BYTES)
        if head[:1] != b"l":
            raise ValueError("not little-endian")
        kind = head[1]
        body_bytes, _, fields_bytes = struct.unpack("<III", head[4:])
        fields = _exactly(connection, fields_bytes + -fields_bytes % 8)
        _exactly(connection, body_bytes)
        # a field of code 5 and type u: the serial that is answered
        if b"\x05\x01u\0" + struct.pack("<I", serial) in fields:
            return kind == _METHOD_RETURN


def _exactly(connection: socket.socket, wanted: int) -> bytes:
    data = b""
    while len(data) < wanted:
        piece = connection.recv(wanted - len(data))
        if not piece:
            raise ValueError("the connection ended")
        data += piece
    return data


def _line(connection: socket.socket) -> bytes:
    """Read up to the end of a line, byte by byte, because what follows belongs to the next step."""
    data = b""
    while not data.endswith(b"\r\n") and len(data) < 256:
        data += _exactly(connection, 1)
    return data

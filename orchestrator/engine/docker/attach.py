"""Connects to a container's streams by the engine's attach call, for an engine that does not share our files.

The engine multiplexes both output streams over one connection. Before each piece comes a header of 8 bytes: the
stream (1 or 2), three zeros, the length in network order (Docker Engine API, "Attach to a container").
"""

from __future__ import annotations

import select
import struct
import threading
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    import socket

_HEADER = struct.Struct(">BxxxL")
_NAMES = {1: "stdout", 2: "stderr"}
_READ_BYTES = 1 << 16


class AttachChannel:
    """The streams of a container over one upgraded HTTP connection. One thread reads; any thread may write."""

    def __init__(self, connection: socket.socket, *, keep: object) -> None:
        self._connection = connection
        self._keep = keep  # the response object, which closes the connection when it is garbage-collected
        self._pending = b""
        self._left = 0  # bytes of the current piece that are still to come
        self._stream = "stdout"
        self._ended: list[str] = []
        self._closed = False
        self._lock = threading.Lock()
        connection.settimeout(None)

    def write(self, data: bytes) -> None:
        """Write to the container's standard input. Raises EngineError."""
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError as error:
            raise EngineError(f"writing to the container: {error}") from error

    def stage(self, nonce: str, script: str) -> bytes:
        """Return the bytes to write for the agent to run `script`."""
        return f"{nonce}\n{script}{nonce}\n".encode(errors="surrogateescape")

    def unlink(self) -> None:
        """Do nothing: there are no files."""

    def read(self, timeout_seconds: float) -> tuple[str, bytes] | None:
        """Return the next piece of output, as `base.Channel.read` describes."""
        while True:
            piece = self._piece()
            if piece is not None:
                return piece
            if self._closed:
                return (self._ended.pop(0), b"") if self._ended else None
            if not self._readable(timeout_seconds):
                return None
            try:
                data = self._connection.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:  # the engine closes both streams at once
                self._closed, self._ended = True, ["stdout", "stderr"]
            self._pending += data

    def _readable(self, timeout_seconds: float) -> bool:
        pending = getattr(self._connection, "pending", None)  # poll does not see bytes that TLS has decrypted
        if pending is not None and pending():
            return True
        poll = select.poll()  # not `select`, which cannot handle descriptors above 1023
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_seconds) * 1000))

    def _piece(self) -> tuple[str, bytes] | None:
        """Return the next piece from the bytes that were received, None if they hold none."""
        if self._left == 0:
            if len(self._pending) < _HEADER.size:
                return None
            kind, self._left = _HEADER.unpack_from(self._pending)
            self._pending = self._pending[_HEADER.size :]
            self._stream = _NAMES.get(kind, "stdout")
        if not self._pending or self._left == 0:
            return None
        data, self._pending = self._pending[: self._left], self._pending[self._left :]
        self._left -= len(data)
        return self._stream, data

    def close(self) -> None:
        """Close the connection."""
        try:
            self._connection.close()
        finally:
            close = getattr(self._keep, "close", None)
            if close is not None:
                close()

"""The engine's API over its Unix socket with nothing in between: for the calls that every container needs.

The SDK's way through requests and urllib3 takes 2 ms of CPU a call, this one 0.6 (docs/design/fresh-slots.md), and
a fresh slot makes six of them. Answers are read whole; streams and what a run rarely needs stay with the SDK.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_SECONDS = 60.0
"""Longest time between two bytes of an answer: an engine under full load took 11 s for a create."""
MAX_LINE_BYTES = 1 << 20
KEPT_CONNECTIONS = 16
"""Idle connections kept for the next call; more callers than that at once open and close their own."""


class Transport(Protocol):
    """A way to send one request and get its whole answer."""

    def request(self, method: str, path: str, body: bytes | None, timeout_seconds: float) -> tuple[int, bytes]:
        """(HTTP status, body). `timeout_seconds` is the longest silence. Raises OSError, HTTPException."""

    def follow(self, path: str) -> JsonLines | None:
        """The answer to a GET as it comes; None: this transport has none. Raises as `request`."""

    def ping(self, timeout_seconds: float) -> None:
        """Return if the engine answers within that time. Raises as `request`."""

    def close(self) -> None:
        """Close the connections."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, socket_path: str) -> None:
        super().__init__("localhost")
        self._socket_path = socket_path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._socket_path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def set_timeout(self, seconds: float) -> None:
        self.timeout = seconds
        if self.sock is not None:
            self.sock.settimeout(seconds)

    def is_usable(self) -> bool:
        """False for an idle connection that the engine has closed: a request on it would be lost, and whether
        it was carried out unknown. Nothing else can make an idle one readable.
        """
        if self.sock is None:
            return False
        poll = select.poll()  # not `select`, which cannot do descriptors above 1023
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class JsonLines:
    """An answer that goes on and on, an object a line; read by one thread, and closed by any."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._socket = connection.sock

    def next(self) -> Mapping[str, object] | None:
        """The next object; None: the answer has ended. Raises EngineError."""
        try:
            line = self._response.readline(MAX_LINE_BYTES)
            found = json.loads(line) if line.strip() else None
        except (OSError, ValueError, http.client.HTTPException, AttributeError) as error:
            raise EngineError(f"reading the engine's answer: {error}") from error
        return found if isinstance(found, dict) else None

    def close(self) -> None:
        """Shut it down, which wakes a reader. May be called twice."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class UnixTransport:
    """Kept-alive connections to a Unix socket; any thread may call."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def request(self, method: str, path: str, body: bytes | None, timeout_seconds: float) -> tuple[int, bytes]:
        """One request. A connection goes back only after a whole answer: no later call can read its rest."""
        connection = self._take()
        try:
            connection.set_timeout(timeout_seconds)
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return response.status, answer

    def follow(self, path: str) -> JsonLines:
        """Over a connection of its own."""
        connection = _Connection(self._socket_path)
        try:
            connection.set_timeout(CALL_SECONDS)
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status >= 400:
                raise EngineError(_explanation(response.status, response.read()))
            assert connection.sock is not None  # noqa: S101 - it was just used
            connection.sock.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return JsonLines(connection, response)

    def ping(self, timeout_seconds: float) -> None:
        """Ask over a new connection: an engine that is ending still serves those that it has."""
        connection = _Connection(self._socket_path)
        try:
            connection.set_timeout(timeout_seconds)
            connection.request("GET", "/_ping")
            connection.getresponse().read()
        finally:
            connection.close()

    def _take(self) -> _Connection:
        while True:
            with self._lock:
                if not self._idle:
                    return _Connection(self._socket_path)
                connection = self._idle.pop()  # the last one used: the others can grow old and go
            if connection.is_usable():
                return connection
            connection.close()

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed and connection.sock is not None and len(self._idle) < KEPT_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the idle connections, and those in use when their calls end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class EngineApi:
    """The engine's calls by method and path, JSON in and out, its errors as ours."""

    def __init__(self, transport: Transport, api_version: str | None) -> None:
        """`api_version` None: calls that belong to none, as the question for it does."""
        self._transport = transport
        self._prefix = f"/v{api_version}" if api_version else ""

    def call(
        self,
        doing: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        timeout_seconds: float,
    ) -> Any:
        """The answer's JSON, None for an empty one. Raises NotFoundError (404), ConflictError (409),
        EngineTimeoutError, EngineUnavailableError (no connection), or EngineError.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            status, answer = self._transport.request(method, self._prefix + path, data, timeout_seconds)
        except TimeoutError as error:
            raise EngineTimeoutError(
                f"{doing}: the engine did not answer within {timeout_seconds:.0f} s"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ConnectionError | FileNotFoundError | http.client.IncompleteRead):
                raise EngineUnavailableError(
                    f"{doing}: lost the connection to the engine", remedy="orch doctor tells whether it answers"
                ) from error
            raise EngineError(f"{doing}: {error}") from error
        if status >= 400:
            kind = {404: NotFoundError, 409: ConflictError}.get(status, EngineError)
            raise kind(f"{doing}: {_explanation(status, answer)}")
        try:
            return json.loads(answer) if answer.strip() else None
        except ValueError as error:
            raise EngineError(f"{doing}: the engine's answer is no JSON: {error}") from error

    def follow(self, doing: str, path: str) -> JsonLines:
        """An answer that goes on. Raises EngineError, also where the transport has none."""
        try:
            found = self._transport.follow(self._prefix + path)
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailableError(f"{doing}: {error}") from error
        if found is None:
            raise EngineError(f"{doing}: not over this kind of connection")
        return found

    def ping(self, timeout_seconds: float) -> None:
        """Ask, over a new connection where that can be, if the engine is there. EngineUnavailableError: not."""
        try:
            self._transport.ping(timeout_seconds)
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailableError(f"the engine does not answer: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def connected(socket_path: str, timeout_seconds: float) -> tuple[EngineApi, Mapping[str, Any]]:
    """Calls to the engine at a Unix socket, in its own version of the API, and what it says of its version. Raises
    as `call` does.
    """
    transport = UnixTransport(socket_path)
    try:
        asking = EngineApi(transport, None)
        reply = asking.call("asking for its version", "GET", "/version", timeout_seconds=timeout_seconds)
        version = reply.get("ApiVersion") if isinstance(reply, dict) else None
        if not isinstance(version, str):
            raise EngineError("its answer names no ApiVersion")
    except BaseException:
        transport.close()
        raise
    return EngineApi(transport, version), reply


def _explanation(status: int, answer: bytes) -> str:
    """The engine's own words."""
    text = answer.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    message = said.get("message") if isinstance(said, dict) else None
    return str(message or text or f"HTTP status {status}")

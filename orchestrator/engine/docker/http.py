"""A client of the engine's HTTP API: JSON requests and streams of JSON lines, over a Unix socket, TCP or TLS.

It uses http.client directly. Through the Docker SDK the same request takes 3 to 4 times the CPU time, and the
import of the SDK takes longer than a short test (docs/design/engine/http.md). Archives, builds, pulls and attached
streams stay with the SDK (`sdk.py`).
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Connect = Callable[[float | None], socket.socket]
    """A function that opens a connection to the engine; the argument is the connection's timeout in seconds."""

CALL_SECONDS = 60.0
"""The longest time between two bytes of an answer: an engine under full load took 11 s for a create."""
MAX_LINE_BYTES = 1 << 20
KEPT_CONNECTIONS = 16
"""The number of idle connections kept for later requests; connections beyond it are closed after use."""


def connector(address: str, env: Mapping[str, str]) -> Connect:
    """Return a function that opens connections to a `unix://`, `tcp://`, `http://` or `https://` address.

    TCP uses TLS if the scheme is https or DOCKER_TLS_VERIFY is set; certificates are then read from
    DOCKER_CERT_PATH or ~/.docker. Raises ValueError for any other address, OSError if the certificates cannot be
    read.
    """
    if address.startswith("unix://"):
        return _unix_connector(address.removeprefix("unix://"))
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise ValueError(f"{address} is no unix://, tcp://, http:// or https:// address")
    secure = parts.scheme == "https" or (parts.scheme == "tcp" and bool(env.get("DOCKER_TLS_VERIFY")))
    port = parts.port or (2376 if secure else 2375)
    return _tcp_connector(parts.hostname, port, env if secure else None)


def _unix_connector(path: str) -> Connect:
    def connect(timeout: float | None) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(timeout)
            opened.connect(path)
        except BaseException:
            opened.close()
            raise
        return opened

    return connect


def _tcp_connector(host: str, port: int, tls_env: Mapping[str, str] | None) -> Connect:
    def connect(timeout: float | None) -> socket.socket:
        return socket.create_connection((host, port), timeout)

    if tls_env is None:
        return connect
    import ssl

    folder = Path(tls_env.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def connect_securely(timeout: float | None) -> socket.socket:
        plain = connect(timeout)
        try:
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    return connect_securely


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a socket that `connect` opens."""

    def __init__(self, connect: Connect) -> None:
        super().__init__("localhost")
        self._connect = connect

    def connect(self) -> None:
        self.sock = self._connect(self.timeout)

    def set_timeout(self, seconds: float | None) -> None:
        self.timeout = seconds
        if self.sock is not None:
            self.sock.settimeout(seconds)

    def is_usable(self) -> bool:
        """Return False if the engine has closed this idle connection.

        A request on such a connection would be lost, and it would be unknown whether it was carried out. An idle
        connection becomes readable only when the other side closes it.
        """
        if self.sock is None:
            return False
        poll = select.poll()  # not `select`, which cannot handle descriptors above 1023
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class JsonLines:
    """An open-ended answer with one JSON object per line. One thread reads it; another thread may close it."""

    def __init__(self, opened: socket.socket, response: http.client.HTTPResponse) -> None:
        self._socket = opened
        self._response = response
        self._closed = threading.Event()
        self._reading = threading.Lock()
        """Held while the response is in use: http.client raises any error if it is closed during a read."""

    def next(self) -> Mapping[str, object] | None:
        """Return the next object, or None if the answer has ended or was closed. Raises EngineError."""
        with self._reading:
            if self._closed.is_set():
                return None
            try:
                line = self._response.readline(MAX_LINE_BYTES)
                found = json.loads(line) if line.strip() else None
            except (OSError, ValueError, http.client.HTTPException, AttributeError) as error:
                # AttributeError: a shutdown takes the TLS state away during a read
                if self._closed.is_set():
                    return None
                raise EngineError(f"reading the engine's answer: {error}") from error
        return found if isinstance(found, dict) and not self._closed.is_set() else None

    def close(self) -> None:
        """Shut the connection down, which ends a read of the other thread, then free it. May be called twice."""
        self._closed.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._reading:
            self._response.close()
            self._socket.close()


class ConnectionPool:
    """A pool of persistent connections to one engine. Any thread may call any method."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def request(self, method: str, path: str, body: bytes | None, timeout_seconds: float) -> tuple[int, bytes]:
        """Send a request and return the answer's HTTP status and body. Raises OSError or HTTPException.

        `timeout_seconds` is the longest time between two bytes of the answer. A connection goes back to the pool
        only after a complete answer, so that no later request can read the rest of an earlier answer.
        """
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

    def stream(self, path: str, timeout_seconds: float | None) -> tuple[int, bytes | JsonLines]:
        """Send a GET request over a new connection; return the HTTP status and the open answer.

        The answer of a failed request (status 400 and above) is read completely. `timeout_seconds` is the longest
        time between two bytes, None for no limit. Raises OSError or HTTPException.
        """
        connection = _Connection(self._connect)
        try:
            connection.set_timeout(CALL_SECONDS)
            connection.request("GET", path)
            opened = connection.sock  # an answer without a length takes it away from the connection
            response = connection.getresponse()
            if response.status >= 400:
                answer = response.read()
                connection.close()
                return response.status, answer
            opened.settimeout(timeout_seconds)
        except BaseException:
            connection.close()
            raise
        return response.status, JsonLines(opened, response)

    def ping(self, timeout_seconds: float) -> None:
        """Send `/_ping` over a new connection: an engine that is shutting down still answers on existing ones."""
        connection = _Connection(self._connect)
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
                    return _Connection(self._connect)
                connection = self._idle.pop()  # the most recently used; the others may be closed by the engine
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
        """Close the idle connections now, and those in use when their requests end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class EngineApi:
    """Requests to the engine's API, with its errors as exceptions of `orchestrator.errors`.

    `doing` describes a request in error messages, for example "creating container x".
    """

    def __init__(self, pool: ConnectionPool, api_version: str | None) -> None:
        """Send requests through `pool`, with `api_version` (such as 1.41) as the prefix of all paths.

        With None, the paths have no prefix.
        """
        self._pool = pool
        self._prefix = f"/v{api_version}" if api_version else ""

    def call(
        self,
        doing: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Any:
        """Send a request and return the parsed JSON answer, None if the answer is empty.

        Raises NotFoundError (404), ConflictError (409), EngineTimeoutError, EngineUnavailableError (no
        connection), or EngineError.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            status, answer = self._pool.request(method, self._prefix + path, data, timeout_seconds)
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
        _raise_for_status(doing, status, answer)
        try:
            return json.loads(answer) if answer.strip() else None
        except ValueError as error:
            raise EngineError(f"{doing}: the engine's answer is no JSON: {error}") from error

    def stream(self, doing: str, path: str, *, timeout_seconds: float | None) -> JsonLines:
        """Send a GET request whose answer is an open-ended stream of JSON lines.

        `timeout_seconds` is the longest time between two bytes, None for no limit. Raises NotFoundError (404),
        EngineUnavailableError, or EngineError.
        """
        try:
            status, answer = self._pool.stream(self._prefix + path, timeout_seconds)
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailableError(f"{doing}: {error}") from error
        if isinstance(answer, bytes):
            _raise_for_status(doing, status, answer)
            raise EngineError(f"{doing}: HTTP status {status}")
        return answer

    def ping(self, timeout_seconds: float) -> None:
        """Raise EngineUnavailableError if the engine does not answer on a new connection within the time."""
        try:
            self._pool.ping(timeout_seconds)
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailableError(f"the engine does not answer: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def open_api(connect: Connect, timeout_seconds: float) -> tuple[EngineApi, Mapping[str, Any]]:
    """Return requests in the engine's own API version, and the engine's answer to `/version`.

    Raises the exceptions of `EngineApi.call`; EngineError also for an answer without an API version.
    """
    pool = ConnectionPool(connect)
    try:
        unversioned = EngineApi(pool, None)
        reply = unversioned.call("asking for its version", "GET", "/version", timeout_seconds=timeout_seconds)
        version = reply.get("ApiVersion") if isinstance(reply, dict) else None
        if not isinstance(version, str):
            raise EngineError("its answer names no ApiVersion")
    except BaseException:
        pool.close()
        raise
    return EngineApi(pool, version), reply


def _raise_for_status(doing: str, status: int, answer: bytes) -> None:
    """Raise the exception for an HTTP status of 400 or above, with the engine's own message."""
    if status >= 400:
        kind = {404: NotFoundError, 409: ConflictError}.get(status, EngineError)
        raise kind(f"{doing}: {_error_text(status, answer)}")


def _error_text(status: int, answer: bytes) -> str:
    """Return the `message` of an error answer, else its text, else its HTTP status."""
    text = answer.decode(errors="replace").strip()
    try:
        reply = json.loads(text)
    except ValueError:
        reply = None
    message = reply.get("message") if isinstance(reply, dict) else None
    return str(message or text or f"HTTP status {status}")

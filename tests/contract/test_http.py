"""The client of the engine's HTTP API against real servers: answers, failures, TLS."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.docker.http import ConnectionPool, EngineApi, connector, open_api
from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        status, body = self.server.answers.get(self.path, (404, b'{"message": "no such thing"}'))
        if self.path.endswith("slow"):
            time.sleep(0.5)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path.endswith("last"):
            self.close_connection = True

    def do_POST(self) -> None:
        got = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.answers[self.path] = (200, got)
        self.do_GET()

    def log_message(self, *_: Any) -> None: ...


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.connections = 0
        self.closed = 0
        self.answers: dict[str, tuple[int, bytes]] = {}

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = super().get_request()
        return connection, ("local", 0)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed += 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(str(tmp_path / "s")) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def calls(server: Server) -> Iterator[EngineApi]:
    made = EngineApi(ConnectionPool(connector(f"unix://{server.server_address!s}", {})), "1.41")
    yield made
    made.close()


def get(calls: EngineApi, path: str, seconds: float = 5.0) -> Any:
    return calls.call("asking", "GET", path, timeout_seconds=seconds)


def test_json_goes_there_and_back_over_one_connection(calls: EngineApi, server: Server) -> None:
    body = {"name": "ä\n", "list": [1, None]}
    for _ in range(5):
        assert calls.call("telling", "POST", "/x", body=body, timeout_seconds=5) == body
    server.answers["/v1.41/empty"] = (204, b"")
    assert get(calls, "/empty") is None
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (404, b'{"message": "No such container: x"}', NotFoundError, "asking: No such container: x"),
        (409, b'{"message": "in use"}', ConflictError, "asking: in use"),
        (500, b'{"cause": "c", "message": "broken"}', EngineError, "asking: broken"),
        (500, b"plain words\n", EngineError, "asking: plain words"),
        (503, b"", EngineError, "asking: HTTP status 503"),
        (400, b"[1]", EngineError, "asking: [1]"),
    ],
)
def test_errors_in_the_engines_words(
    calls: EngineApi, server: Server, status: int, body: bytes, kind: type[EngineError], said: str
) -> None:
    server.answers["/v1.41/x"] = (status, body)
    with pytest.raises(EngineError) as caught:
        get(calls, "/x")
    assert type(caught.value) is kind
    assert caught.value.message == said


def test_an_answer_that_is_no_json(calls: EngineApi, server: Server) -> None:
    server.answers["/v1.41/x"] = (200, b"<html>")
    with pytest.raises(EngineError, match="no JSON"):
        get(calls, "/x")


def test_a_late_answer_is_not_taken_for_that_of_the_next_call(calls: EngineApi, server: Server) -> None:
    server.answers["/v1.41/slow"] = (200, b'"late"')
    server.answers["/v1.41/x"] = (200, b'"mine"')
    with pytest.raises(EngineTimeoutError, match="within 0 s"):
        get(calls, "/slow", 0.1)
    time.sleep(0.6)
    assert get(calls, "/x") == "mine"
    assert server.connections == 2


def test_a_connection_that_was_closed_while_idle_is_not_used(calls: EngineApi, server: Server) -> None:
    server.answers["/v1.41/last"] = (200, b"1")
    for number in range(1, 4):
        assert get(calls, "/last") == 1
        deadline = time.monotonic() + 20
        while server.closed < number and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (server.connections, server.closed) == (number, number)


def test_calls_from_many_threads_get_their_own_answers(calls: EngineApi) -> None:
    wrong: list[Any] = []

    def ask(name: str) -> None:
        for number in range(30):
            told = {"from": name, "number": number, "text": "x" * (number * 1000)}
            if calls.call("telling", "POST", f"/{name}", body=told, timeout_seconds=20) != told:
                wrong.append(told)

    threads = [threading.Thread(target=ask, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="lost the connection"):
        get(EngineApi(ConnectionPool(connector(f"unix://{tmp_path}/none", {})), "1.41"), "/x")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", EngineUnavailableError),
        (b"SSH-2.0-x\r\n", EngineError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12", EngineUnavailableError),
    ],
)
def test_an_answer_of_another_server_is_reported(tmp_path: Path, answer: bytes, kind: type[EngineError]) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(kind):
            get(EngineApi(ConnectionPool(connector(f"unix://{tmp_path}/s", {})), "1.41"), "/x")
        thread.join()


def test_after_close_nothing_is_kept(server: Server) -> None:
    pool = ConnectionPool(connector(f"unix://{server.server_address!s}", {}))
    calls = EngineApi(pool, "1.41")
    server.answers["/v1.41/x"] = (200, json.dumps("yes").encode())
    assert get(calls, "/x") == "yes"
    calls.close()
    assert get(calls, "/x") == "yes"
    assert pool._idle == []


def certificate(folder: Path, name: str, *, signed_by: Path | None = None) -> None:
    """Make a key and a certificate for 127.0.0.1, signed by a CA of `signed_by`, else by itself."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    words += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    if signed_by is not None:
        words += ["-CA", str(signed_by / "cert.pem"), "-CAkey", str(signed_by / "key.pem")]
        words += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a CA, of a server and a client that it has signed, and of a client that it has not."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("ca", "server", "client", "stranger")}
    certificate(made["ca"], "ca")
    certificate(made["server"], "server", signed_by=made["ca"])
    certificate(made["client"], "client", signed_by=made["ca"])
    certificate(made["stranger"], "stranger")
    for name in ("client", "stranger"):
        shutil.copy(made["ca"] / "cert.pem", made[name] / "ca.pem")
    return made


@pytest.fixture
def tls_port(certificates: dict[str, Path]) -> Iterator[int]:
    """Return the port of a server that requires TLS and a client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server"] / "cert.pem", certificates["server"] / "key.pem")
    context.load_verify_locations(certificates["ca"] / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    plain, _ = listening.accept()
                    with suppress(ssl.SSLError), context.wrap_socket(plain, server_side=True) as connection:
                        connection.recv(1000)
                        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"ApiVersion":"1.41"}')

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_tcp_with_tls(certificates: dict[str, Path], tls_port: int) -> None:
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates["client"])}
    api, version = open_api(connector(f"tcp://127.0.0.1:{tls_port}", env), 5)
    api.close()
    assert version == {"ApiVersion": "1.41"}


def test_a_client_with_an_unsigned_certificate_is_refused(certificates: dict[str, Path], tls_port: int) -> None:
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates["stranger"])}
    with pytest.raises(EngineError):
        open_api(connector(f"tcp://127.0.0.1:{tls_port}", env), 5)


def test_a_server_that_another_authority_has_signed_is_refused(
    certificates: dict[str, Path], tls_port: int, tmp_path: Path
) -> None:
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificates["client"] / name, tmp_path / name)
    shutil.copy(certificates["stranger"] / "cert.pem", tmp_path / "ca.pem")
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    with pytest.raises(EngineError, match="certificate verify failed"):
        open_api(connector(f"tcp://127.0.0.1:{tls_port}", env), 5)


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="TLS certificates") as caught:
        open_engine("tcp://127.0.0.1:1", {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)})
    assert "DOCKER_CERT_PATH" in (caught.value.remedy or "")


@pytest.mark.parametrize("address", ["nonsense://x", "tcp://", "ssh://host", "/var/run/docker.sock"])
def test_an_address_of_another_kind(address: str) -> None:
    with pytest.raises(ValueError, match="is no unix://"):
        connector(address, {})


def test_a_stream_ends_for_its_reader_when_another_thread_closes_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b'{"n": 1}\n')
                connection.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        api = EngineApi(ConnectionPool(connector(f"unix://{tmp_path}/s", {})), "1.41")
        stream = api.stream("following", "/events", timeout_seconds=None)
        assert stream.next() == {"n": 1}
        timer = threading.Timer(0.2, stream.close)
        timer.start()
        assert stream.next() is None
        timer.join()
        thread.join()


def test_a_stream_of_what_does_not_exist(calls: EngineApi) -> None:
    with pytest.raises(NotFoundError, match="following: no such thing"):
        calls.stream("following", "/none", timeout_seconds=1)

"""The direct way to an engine's socket, against a server made by hand: answers, and how they can go wrong."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.docker.http import EngineApi, UnixTransport
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
        self.answers: dict[str, tuple[int, bytes]] = {}

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = super().get_request()
        return connection, ("local", 0)


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
    made = EngineApi(UnixTransport(str(server.server_address)), "1.41")
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


def test_an_answer_that_is_late_does_not_become_the_next_ones(calls: EngineApi, server: Server) -> None:
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
        time.sleep(0.1)
        assert server.connections == number


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


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="lost the connection"):
        get(EngineApi(UnixTransport(str(tmp_path / "none")), "1.41"), "/x")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", EngineUnavailableError),
        (b"SSH-2.0-x\r\n", EngineError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12", EngineUnavailableError),
    ],
)
def test_something_else_answers(tmp_path: Path, answer: bytes, kind: type[EngineError]) -> None:
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
            get(EngineApi(UnixTransport(str(tmp_path / "s")), "1.41"), "/x")
        thread.join()


def test_after_close_nothing_is_kept(server: Server) -> None:
    transport = UnixTransport(str(server.server_address))
    calls = EngineApi(transport, "1.41")
    server.answers["/v1.41/x"] = (200, json.dumps("yes").encode())
    assert get(calls, "/x") == "yes"
    calls.close()
    assert get(calls, "/x") == "yes"
    assert transport._idle == []

"""If no engine answers, the error has one line and a remedy, and comes within about two seconds."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker.engine import open_engine
from orchestrator.errors import EngineUnavailableError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def silent_socket(tmp_path: Path) -> Iterator[str]:
    """Return the path of a socket that accepts connections and never answers."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)
        yield f"unix://{path}"


def refused(url: str) -> EngineUnavailableError:
    began = time.monotonic()
    with pytest.raises(EngineUnavailableError) as caught:
        open_engine(url, {})
    assert time.monotonic() - began < 4
    assert caught.value.exit_code is ExitCode.INFRA
    assert caught.value.remedy
    assert "\n" not in caught.value.message
    return caught.value


def test_a_missing_socket_is_reported(tmp_path: Path) -> None:
    error = refused(f"unix://{tmp_path}/none.sock")
    assert "No such file" in error.message
    assert "start Docker or Podman" in (error.remedy or "")


def test_a_socket_without_a_listener_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert "refused" in refused(f"unix://{path}").message


def test_a_port_without_a_listener_is_reported() -> None:
    assert "refused" in refused("tcp://127.0.0.1:1").message


def test_an_engine_that_does_not_answer_is_reported(silent_socket: str) -> None:
    refused(silent_socket)


def test_an_invalid_address_is_reported() -> None:
    refused("nonsense://x")


def test_an_answer_of_another_server_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-other\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        refused(f"unix://{path}")
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_no_address_and_no_default_socket_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.engine.docker import engine as docker

    monkeypatch.setattr(docker, "candidate_addresses", lambda *_: ())
    with pytest.raises(EngineUnavailableError, match="no container engine found"):
        open_engine(None, {"XDG_RUNTIME_DIR": str(tmp_path), "DOCKER_CONFIG": os.devnull})

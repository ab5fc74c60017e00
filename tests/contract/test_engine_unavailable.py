"""Where no engine answers: one line with the remedy, within two seconds or so."""

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
    """A socket that takes connections and never answers."""
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


def test_no_socket(tmp_path: Path) -> None:
    error = refused(f"unix://{tmp_path}/none.sock")
    assert "No such file" in error.message
    assert "start Docker or Podman" in (error.remedy or "")


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert "refused" in refused(f"unix://{path}").message


def test_a_port_where_nobody_listens() -> None:
    assert "refused" in refused("tcp://127.0.0.1:1").message


def test_an_engine_that_does_not_answer(silent_socket: str) -> None:
    refused(silent_socket)


def test_an_address_that_is_none() -> None:
    refused("nonsense://x")


def test_something_else_answers(tmp_path: Path) -> None:
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


def test_nothing_named_and_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.engine.docker import engine as docker

    monkeypatch.setattr(docker, "candidate_addresses", lambda *_: ())
    with pytest.raises(EngineUnavailableError, match="no container engine found"):
        open_engine(None, {"XDG_RUNTIME_DIR": str(tmp_path), "DOCKER_CONFIG": os.devnull})

from __future__ import annotations

import socket

import pytest

from orchestrator.engine.docker.addresses import candidate_addresses
from orchestrator.engine.docker.engine import open_engine
from orchestrator.errors import EngineUnavailableError


@pytest.mark.parametrize("url", ["unix:///var/run/docker.sock", "tcp://127.0.0.1:1"])
def test_a_unit_test_that_reaches_for_an_engine_fails(url: str) -> None:
    with pytest.raises((pytest.fail.Exception, EngineUnavailableError), match="unit test connected"):
        open_engine(url)


def test_any_connection_fails() -> None:
    with (
        socket.socket(socket.AF_INET) as inet,
        pytest.raises(pytest.fail.Exception, match="unit test connected"),
    ):
        inet.connect(("127.0.0.1", 1))


def test_the_address_that_is_named_is_the_only_one() -> None:
    assert candidate_addresses("tcp://a:1", {"DOCKER_HOST": "tcp://b:1"}) == ("tcp://a:1",)
    assert candidate_addresses(None, {"DOCKER_HOST": "tcp://b:1"}) == ("tcp://b:1",)

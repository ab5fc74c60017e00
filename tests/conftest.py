"""Fixtures of all tests: the real engine, small images on it, and a guard against sockets in unit tests."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.errors import EngineUnavailableError
from tests.support.handmade import busybox_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.base import Engine

# The machines are noisy: how long an example took says nothing, and speed is the business of bench/.
settings.register_profile("orch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("orch")

TEST_LABEL = "io.orch-tests.pid"

collect_ignore_glob = ["docker/attacks/*"]
"""Projects whose tests run inside containers and are not collected here."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Yield the real engine; fail, and do not skip, if none answers."""
    from orchestrator.engine.docker.engine import open_engine

    try:
        opened = open_engine()
    except EngineUnavailableError as error:
        pytest.fail(f"{error.message}: {error.remedy}", pytrace=False)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def busybox_image(engine: Engine) -> Iterator[str]:
    """Yield the ID of a small image on the real engine, with a POSIX shell and the usual tools."""
    reference = f"orch-test-busybox:{os.getpid()}"
    yield from _prepared(engine, io.BytesIO(busybox_rootfs()), reference)


@pytest.fixture(scope="session")
def dash_image(engine: Engine) -> Iterator[str]:
    """Yield the ID of an image like `busybox_image` with this machine's dash as its shell."""
    reference = f"orch-test-dash:{os.getpid()}"
    yield from _prepared(engine, io.BytesIO(busybox_rootfs(shell=Path("/bin/dash"))), reference)


@pytest.fixture(scope="session")
def shell_less_image(engine: Engine) -> Iterator[str]:
    """Yield the ID of an image with one static program and no shell; the program is busybox, which runs the applet
    named by its argument.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(Path("/bin/busybox").resolve(), arcname="busybox")
    archive.seek(0)
    reference = f"orch-test-shell-less:{os.getpid()}"
    yield from _prepared(engine, archive, reference)


def _prepared(engine: Engine, rootfs: io.BytesIO, reference: str) -> Iterator[str]:
    """Yield the ID of the image prepared as for a run."""
    image_id = prepared_image(engine, engine.import_rootfs(rootfs, reference, {TEST_LABEL: str(os.getpid())}))
    yield image_id
    engine.remove_image(image_id)
    engine.remove_image(reference)


@pytest.fixture(scope="session")
def isolation_image(engine: Engine) -> str:
    """Return the ID of the shipped isolation image, prepared as for a run."""
    image = engine.find_image("orch/test-isolation:latest")
    assert image is not None, "orch build --offline-base makes it; scripts/test does that"
    return prepared_image(engine, image)


@pytest.fixture(autouse=True)
def _no_network_for_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a unit test fail if it connects to an engine or to anything else over a socket."""
    if "unit" not in request.path.relative_to(Path(__file__).parent).parts[:1]:
        return

    def refuse(connecting: socket.socket, address: Any) -> None:
        connecting.close()
        pytest.fail(f"a unit test connected to {address!r}", pytrace=True)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)

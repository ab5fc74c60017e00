"""A container without a network on a real engine: only loopback and its names exist."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine import labels
from orchestrator.engine.docker.engine import HOSTS, DockerEngine
from orchestrator.engine.docker.network_namespace import has_own_network
from orchestrator.engine.isolation import hardening
from tests.support.handmade import OPEN_SECCOMP, make_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.base import ContainerSpec, Engine

pytestmark = pytest.mark.docker


@pytest.fixture
def fresh_engine(engine: Engine) -> Iterator[DockerEngine]:
    """Return an engine client that has not checked a network namespace yet."""
    opened = DockerEngine(engine.info.address, os.environ)
    yield opened
    opened.close()


def spec_in(folder: Path, image: str, text: str) -> ContainerSpec:
    (folder / "project").mkdir(exist_ok=True)
    context = hardening.ContainerContext(
        project_root=folder / "project", state_dir=None, seccomp=OPEN_SECCOMP, counters=()
    )
    spec = hardening.container_spec(
        make_profile(),
        context,
        name=f"orch-tests-{uuid.uuid4().hex[:12]}",
        image_id=image,
        labels={labels.WORK_DIR: str(folder)},
        streams_dir=None,
        cgroup_parent=None,
    )
    return replace(spec, argv=("-c", text))


def output_of(engine: Engine, spec: ContainerSpec) -> tuple[str, Any]:
    made = engine.create(spec)
    try:
        channel = engine.attach(made)
        engine.start(made)
        seen = b""
        while piece := channel.read(20):
            seen += piece[1]
        assert engine.wait(made, 20) == 0
        channel.close()
        return seen.decode(), engine.inspect(made)
    finally:
        engine.remove(made)


SHOW = "sleep 0.3; cat /proc/net/dev /proc/net/route; echo HOSTS; cat /etc/hosts; echo NAMES; cat /etc/resolv.conf"


def test_it_has_loopback_and_its_names_and_nothing_else(
    fresh_engine: DockerEngine, busybox_image: str, tmp_path: Path
) -> None:
    text, seen = output_of(fresh_engine, spec_in(tmp_path, busybox_image, SHOW))
    network, _, rest = text.partition("HOSTS\n")
    hosts, _, _names = rest.partition("NAMES\n")
    assert "lo:" in network
    assert "eth" not in network
    assert len(network.splitlines()) == len([*Path("/proc/net/dev").read_text().splitlines()[:2], "lo", "route"])
    assert "127.0.0.1\tlocalhost\n" in hosts
    assert "::1\tlocalhost" in hosts
    assert seen.effective.network == "none"
    if fresh_engine.info.name == "docker" and fresh_engine.info.local:
        assert hosts == HOSTS
        assert fresh_engine._own_network is True


def test_a_server_and_a_client_meet_on_localhost(
    fresh_engine: DockerEngine, busybox_image: str, tmp_path: Path
) -> None:
    serve = "(echo hello | nc -l -p 7000) & sleep 0.3; nc localhost 7000 </dev/null; wait"
    text, _ = output_of(fresh_engine, spec_in(tmp_path, busybox_image, serve))
    assert text == "hello\n"


def test_without_a_folder_of_the_run_the_engine_sets_the_network_up(
    fresh_engine: DockerEngine, busybox_image: str, tmp_path: Path
) -> None:
    spec = replace(spec_in(tmp_path, busybox_image, SHOW), labels={})
    text, seen = output_of(fresh_engine, spec)
    assert "localhost" in text.partition("HOSTS\n")[2]
    assert "eth" not in text.partition("HOSTS\n")[0]
    assert seen.effective.network == "none"
    assert fresh_engine._own_network is None


def test_a_container_that_sees_the_machines_network_is_killed(
    fresh_engine: DockerEngine, busybox_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fresh_engine.info.name != "docker" or not fresh_engine.info.local:
        pytest.skip("this engine always sets the network up")
    from orchestrator.engine.docker import engine as docker
    from orchestrator.errors import EngineError

    monkeypatch.setattr(docker, "has_own_network", lambda *_: False)
    made = fresh_engine.create(spec_in(tmp_path, busybox_image, "sleep 60"))
    try:
        with pytest.raises(EngineError, match="this machine's network"):
            fresh_engine.start(made)
        assert fresh_engine.wait(made, 20) == 137
    finally:
        fresh_engine.remove(made)
    text, _ = output_of(fresh_engine, spec_in(tmp_path, busybox_image, SHOW))
    assert "eth" not in text.partition("HOSTS\n")[0]
    hosts = text.partition("HOSTS\n")[2].partition("NAMES\n")[0]
    assert "localhost" in hosts
    assert hosts != HOSTS  # the engine's own file is used again


def test_a_container_on_the_machines_network_is_detected(
    engine: Engine, busybox_image: str, tmp_path: Path
) -> None:
    if engine.info.name != "docker" or not engine.info.local:
        pytest.skip("this engine always sets the network up")
    for network, own in (("host", False), ("none", True)):
        spec = replace(spec_in(tmp_path, busybox_image, "sleep 60"), network=network, labels={})
        made = engine.create(spec)
        try:
            engine.start(made)
            assert has_own_network(made, engine.inspect(made).pid or 0) is own
        finally:
            engine.remove(made)

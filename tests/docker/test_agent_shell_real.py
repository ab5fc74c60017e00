"""Foreign images get the agent's shell and the entry of the tests' user, and none of their programs is run."""

from __future__ import annotations

import io
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine import labels
from orchestrator.engine.cleanup.reaper import find_orphans
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.measure.sampler import Sampler
from orchestrator.model.outcomes import Outcome
from tests.docker.test_attestation_real import Bench, Disobedient, outcome_of
from tests.support.handmade import busybox_rootfs, make_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.engine.docker.engine import DockerEngine

pytestmark = pytest.mark.docker
AWKWARD = """
FROM {base}
RUN ["/bin/busybox", "rm", "-r", "/bin/cp", "/bin/chmod", "/etc/passwd"]
RUN ["/bin/busybox", "mkdir", "/data"]
ENV THEIRS=kept
VOLUME /data
USER 4242:4242
ENTRYPOINT ["/bin/false"]
CMD ["nothing"]
ONBUILD RUN touch /onbuild-was-here; exit 1
"""
LOOKS = (
    'set -e; test "$(id -u):$(id -g):$(id -un):$(id -gn)" = 1001:1001:testuser:testuser;'
    ' test "$USER:$LOGNAME:$HOME:$THEIRS" = testuser:testuser:/tmp:kept; test ! -e /onbuild-was-here;'
    ' test "$(stat -c %a:%u:%g /.orch/sh)" = 711:0:0; test -r /bin/sh; test ! -r /.orch/sh; test ! -w /.orch/sh;'
    " test ! -r /proc/1/environ; ! (: </proc/1/mem) 2>/dev/null; (: </proc/$$/mem)"
)


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


@pytest.mark.parametrize("shell", [None, "/bin/dash", "/bin/bash"])
def test_a_foreign_image_with_onbuild_entrypoint_and_volume_is_prepared(
    engine: DockerEngine, tmp_path: Path, sampler: Sampler, shell: str | None
) -> None:
    mark = f"orch-test-awkward-{uuid.uuid4().hex[:12]}"
    rootfs = io.BytesIO(busybox_rootfs(shell=shell and Path(shell)))
    names = [f"{mark}:root", f"{mark}:built"]
    root = engine.import_rootfs(rootfs, names[0], {})
    try:
        built = engine.build(
            context=io.BytesIO(make_tar({"Dockerfile": AWKWARD.format(base=root).encode()})),
            dockerfile="Dockerfile",
            tags=(names[1],),
            build_args={},
            labels={"theirs": mark},
            network="none",
            on_line=lambda _: None,
        )
        image = prepared_image(engine, built)
        names.insert(0, image)
        assert image not in (built, root)
        assert prepared_image(engine, built) == prepared_image(engine, image) == image
        assert engine.image_labels(image)["theirs"] == mark
        # a container of the prepared image does not look like one that a dead run left
        assert {engine.image_labels(image)[key] for key in (labels.MANAGED, labels.OWNER, labels.NAME)} == {""}
        evidence = Bench(engine, image, tmp_path, sampler).sh(LOOKS)
        assert outcome_of(evidence) == (Outcome.PASSED, ""), evidence.stderr.tail
    finally:
        for name in reversed(names):
            engine.remove_image(name)


def test_a_container_that_an_interrupted_preparation_leaves_is_found(
    engine: DockerEngine, busybox_image: str
) -> None:
    def is_orphan(container: str, owner_alive: Callable[[str], bool]) -> bool:
        """By its ID: other tests may have containers on this engine."""
        return container in {one.id for one in find_orphans(engine, owner_alive=owner_alive)}

    with engine._stopped(busybox_image) as container:
        assert not is_orphan(container, lambda token: token.split(":")[1] == str(os.getpid()))
        assert is_orphan(container, lambda _: False)
    assert not is_orphan(container, lambda _: False)


@pytest.fixture
def bare_image(engine: DockerEngine) -> Iterator[str]:
    """A foreign image that is not prepared."""
    name = f"orch-test-bare:{uuid.uuid4().hex[:12]}"
    image = engine.import_rootfs(io.BytesIO(busybox_rootfs()), name, {})
    yield image
    engine.remove_image(prepared_image(engine, image))
    engine.remove_image(name)


def test_the_executor_prepares_every_image(
    engine: DockerEngine, bare_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    evidence = Bench(engine, bare_image, tmp_path, sampler).sh("test ! -r /proc/1/environ")
    assert outcome_of(evidence) == (Outcome.PASSED, "")
    assert evidence.attestation is not None
    assert evidence.attestation.image_id == prepared_image(engine, bare_image) != bare_image


def test_a_container_without_the_agents_shell_is_infra(
    engine: DockerEngine, bare_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    other: Any = Disobedient(engine, lambda spec: replace(spec, image_id=bare_image))
    began = time.monotonic()
    outcome, message = outcome_of(Bench(other, bare_image, tmp_path, sampler).sh("true"))
    assert outcome is Outcome.INFRA
    assert "came up without its agent: its state is exited, exit code 127" in message
    assert time.monotonic() - began < 30  # not the whole time that an agent may need to start

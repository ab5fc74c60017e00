"""The in-memory engine and a real engine behave alike, so that tests on the in-memory engine hold for Docker."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.base import ContainerSpec
from orchestrator.errors import ConflictError, EngineError, ImageError, NotFoundError
from orchestrator.testing.engine import FakeEngine
from tests.support.handmade import OPEN_SECCOMP, make_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.engine.base import Channel, Engine
    from orchestrator.testing.container import Behaviour, FakeContainer

LABEL = "io.orch-tests.contract"


def _echo(container: FakeContainer) -> int:
    streams = container.streams
    while (line := streams.read_line()) != b"end":
        streams.send("stdout", b"out " + (line or b"") + b"\n")
        streams.send("stderr", b"err\n")
    return 4


def _sleep(container: FakeContainer) -> int:
    while True:
        with contextlib.suppress(Exception):
            container.signals.get(timeout=0.01)
        container.streams.send("stdout", b"")  # raises once the container has ended


# what a real container's shell is told -> what the fake plays for it
PROGRAMS: dict[str, Behaviour] = {
    "exit 0": lambda _: 0,
    "exit 3": lambda _: 3,
    "sleep 60": _sleep,
    'while read -r line && [ "$line" != end ]; do echo "out $line"; echo err >&2; done; exit 4': _echo,
    "kill -USR1 $$; exit 5": lambda _: 5,
}
ECHO = next(text for text in PROGRAMS if text.startswith("while"))


class Maker:
    """Makes containers of one engine and removes them at the end."""

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine = engine
        self.image = image
        self.mark = uuid.uuid4().hex
        self._numbers = iter(range(1, 1000))

    def spec(self, text: str = "sleep 60", **labels: str) -> ContainerSpec:
        return ContainerSpec(
            name=f"orch-contract-{self.mark[:12]}-{next(self._numbers)}",
            image_id=self.image,
            entrypoint=("/bin/sh",),
            argv=("-c", text),
            env={"PATH": "/bin"},
            labels={LABEL: self.mark, **labels},
            user="1001:1001",
            working_dir="/",
            hostname="orch",
            network="none",
            mounts=(),
            tmpfs={"/tmp": "rw,size=1m"},
            cpus=0.5,
            memory_bytes=64 << 20,
            pids=32,
            nofile=64,
            shm_bytes=1 << 20,
            capabilities=(),
            seccomp=OPEN_SECCOMP,
        )

    def create(self, text: str = "sleep 60") -> str:
        return self.engine.create(self.spec(text))

    def start(self, text: str = "sleep 60") -> str:
        made = self.create(text)
        self.engine.start(made)
        return made

    def close(self) -> None:
        for found in self.engine.find({LABEL: self.mark}):
            self.engine.remove_object(found)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.docker)])
def maker(request: pytest.FixtureRequest) -> Iterator[Maker]:
    if request.param == "real":
        made = Maker(request.getfixturevalue("engine"), request.getfixturevalue("busybox_image"))
    else:
        fake = FakeEngine(lambda spec: PROGRAMS[spec.argv[-1]])
        made = Maker(fake, fake.import_rootfs(io.BytesIO(b"root"), "tiny:1", {}))
    yield made
    made.close()


def test_info_describes_the_engine(maker: Maker) -> None:
    info = maker.engine.info
    assert info.name in ("docker", "podman", "fake")
    assert info.version
    assert info.cpus >= 1
    assert info.memory_bytes > 0


def test_a_created_container_is_not_started(maker: Maker) -> None:
    spec = maker.spec()
    made = maker.engine.create(spec)
    seen = maker.engine.inspect(made)
    assert (seen.id, seen.name, seen.pid) == (made, spec.name, None)
    assert (seen.state.status, seen.state.started_at, seen.state.finished_at) == ("created", None, None)
    assert seen.labels[LABEL] == maker.mark


def test_the_settings_are_read_back(maker: Maker) -> None:
    effective = maker.engine.inspect(maker.create()).effective
    assert effective.memory_bytes == 64 << 20
    assert effective.cpus == 0.5
    assert effective.pids == 32
    assert effective.network == "none"
    assert effective.capabilities_added == ()
    assert effective.capabilities_dropped == ("ALL",)
    assert effective.seccomp == "profile"
    assert effective.no_new_privileges is True
    assert effective.read_only_root is True
    assert effective.user == "1001:1001"
    assert effective.image_id == maker.image


def test_an_ended_container_has_exit_code_and_times(maker: Maker) -> None:
    made = maker.start("exit 3")
    assert maker.engine.wait(made, 20) == 3
    state = maker.engine.inspect(made).state
    assert (state.status, state.exit_code, state.error) == ("exited", 3, "")
    assert state.started_at is not None
    assert state.finished_at is not None
    # Docker 20.10 takes the start's time after the process has started: one that ends at once ends 1 ms before
    assert (state.finished_at - state.started_at).total_seconds() > -1
    assert state.started_at.tzinfo is not None


def test_wait_ends_after_its_timeout(maker: Maker) -> None:
    made = maker.start()
    began = time.monotonic()
    assert maker.engine.wait(made, 0.5) is None
    assert 0.4 < time.monotonic() - began < 5
    assert maker.engine.inspect(made).state.status == "running"


def test_a_container_that_never_started_has_no_exit_code(maker: Maker) -> None:
    """The wait call of a real engine returns 0 at once here, which must not count as a pass."""
    assert maker.engine.wait(maker.create("exit 0"), 0.5) is None


def test_kill_ends_it_and_is_harmless_afterwards(maker: Maker) -> None:
    made = maker.start()
    maker.engine.kill(made)
    assert maker.engine.wait(made, 20) == 137
    maker.engine.kill(made)
    maker.engine.kill(made, "TERM")
    maker.engine.remove(made)
    maker.engine.kill(made)


def test_the_memory_limit_of_a_running_container_can_be_raised_and_lowered(maker: Maker) -> None:
    made = maker.start()
    for limit in (96 << 20, 80 << 20):
        maker.engine.limit_memory(made, limit)
        assert maker.engine.inspect(made).effective.memory_bytes == limit
    maker.engine.kill(made)


def test_containers_are_found_by_name_and_by_id(maker: Maker) -> None:
    spec = maker.spec()
    made = maker.engine.create(spec)
    maker.engine.start(spec.name)
    assert maker.engine.inspect(spec.name).id == made
    maker.engine.kill(spec.name)
    assert maker.engine.wait(spec.name, 20) == 137
    maker.engine.remove(spec.name)
    with pytest.raises(NotFoundError):
        maker.engine.inspect(made)


def test_a_running_container_can_be_removed_and_a_second_remove_is_harmless(maker: Maker) -> None:
    made = maker.start()
    maker.engine.remove(made)
    maker.engine.remove(made)
    assert maker.engine.find({LABEL: maker.mark}) == ()


def test_statistics_are_streamed_until_they_are_closed(maker: Maker) -> None:
    stream = maker.engine.stats_stream(maker.start())
    assert stream.next() is not None
    assert stream.next() is not None
    stream.close()
    stream.close()
    assert stream.next() is None


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: engine.inspect("no-such-container"),
        lambda engine: engine.start("no-such-container"),
        lambda engine: engine.wait("no-such-container", 1),
        lambda engine: engine.attach("no-such-container"),
        lambda engine: engine.run_inside("no-such-container", ("true",), 1),
        lambda engine: engine.stats("no-such-container"),
        lambda engine: engine.stats_stream("no-such-container"),
    ],
    ids=["inspect", "start", "wait", "attach", "run_inside", "stats", "stats_stream"],
)
def test_what_does_not_exist_is_not_found(maker: Maker, call: Callable[[Engine], object]) -> None:
    with pytest.raises(NotFoundError):
        call(maker.engine)


def test_a_taken_name_is_a_conflict(maker: Maker) -> None:
    spec = maker.spec()
    made = maker.engine.create(spec)
    with pytest.raises(ConflictError):
        maker.engine.create(spec)
    assert maker.engine.inspect(spec.name).id == made


def test_an_image_that_does_not_exist(maker: Maker) -> None:
    with pytest.raises(NotFoundError):
        maker.engine.create(replace(maker.spec(), image_id="sha256:" + "0" * 64))


def test_find_matches_all_labels(maker: Maker) -> None:
    one = maker.engine.create(maker.spec(kind="a", size="1"))
    two = maker.engine.create(maker.spec(kind="a", size="2"))
    mine = {LABEL: maker.mark}

    def ids(**labels: str) -> set[str]:
        return {found.id for found in maker.engine.find({**mine, **labels})}

    assert ids() == {one, two}
    assert ids(kind="a") == {one, two}
    assert ids(kind="a", size="2") == {two}
    assert ids(kind="b") == set()
    assert ids(size="") == {one, two}
    assert ids(colour="") == set()
    found = next(f for f in maker.engine.find({**mine, "size": "1"}))
    assert found.kind == "container"
    assert found.name == maker.engine.inspect(one).name
    assert found.labels["kind"] == "a"
    assert found.created_at is not None
    assert abs(found.created_at.timestamp() - time.time()) < 60


def test_remove_object_twice(maker: Maker) -> None:
    maker.start()
    (found,) = maker.engine.find({LABEL: maker.mark})
    maker.engine.remove_object(found)
    maker.engine.remove_object(found)
    assert maker.engine.find({LABEL: maker.mark}) == ()


def test_volumes_and_networks_that_are_gone_are_no_error(maker: Maker) -> None:
    made = maker.start()
    (container,) = maker.engine.find({LABEL: maker.mark})
    for kind in ("volume", "network"):
        maker.engine.remove_object(replace(container, kind=kind, id=f"none-{maker.mark}", name="none"))
    assert maker.engine.inspect(made).state.status == "running"


def test_run_inside_returns_the_exit_code_of_a_command(maker: Maker) -> None:
    made = maker.start()
    assert maker.engine.run_inside(made, ("/bin/sh", "-c", "kill -USR1 1"), 10) == 0
    assert maker.engine.run_inside(made, ("/bin/sh", "-c", "exit 127"), 10) == 127
    maker.engine.kill(made)
    maker.engine.wait(made, 20)
    with pytest.raises(EngineError):
        maker.engine.run_inside(made, ("/bin/sh", "-c", "kill -USR1 1"), 10)


def read_all(channel: Channel) -> dict[str, bytes]:
    seen = {"stdout": b"", "stderr": b""}
    ended: set[str] = set()
    deadline = time.monotonic() + 20
    while len(ended) < 2:
        assert time.monotonic() < deadline
        piece = channel.read(1.0)
        if piece is not None:
            seen[piece[0]] += piece[1]
            if not piece[1]:
                ended.add(piece[0])
    return seen


def test_attach_carries_all_three_streams(maker: Maker) -> None:
    made = maker.create(ECHO)
    channel = maker.engine.attach(made)
    maker.engine.start(made)
    assert channel.read(0.05) is None
    channel.write(b"one\ntw")
    channel.write(b"o\nend\n")
    assert read_all(channel) == {"stdout": b"out one\nout two\n", "stderr": b"err\nerr\n"}
    assert channel.read(0.05) is None
    channel.close()
    channel.close()
    assert maker.engine.wait(made, 20) == 4


def test_both_streams_end_with_the_container(maker: Maker) -> None:
    made = maker.create()
    channel = maker.engine.attach(made)
    maker.engine.start(made)
    maker.engine.remove(made)
    assert read_all(channel) == {"stdout": b"", "stderr": b""}
    channel.close()


# ---------------------------------------------------------------- images


def context_of(dockerfile: str) -> io.BytesIO:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        member = tarfile.TarInfo("sub/Dockerfile")
        member.size = len(content := dockerfile.encode())
        archive.addfile(member, io.BytesIO(content))
    held.seek(0)
    return held


def test_images_by_name_and_by_id(maker: Maker) -> None:
    name = f"orch-contract-image:{maker.mark[:12]}"
    engine = maker.engine
    assert engine.find_image(name) is None
    assert engine.find_image(maker.image) == maker.image
    engine.tag(maker.image, name)
    try:
        assert engine.find_image(name) == maker.image
        assert engine.image_bytes(name) == engine.image_bytes(maker.image) > 0
    finally:
        engine.remove_image(name)
    assert engine.find_image(name) is None
    assert engine.find_image(maker.image) == maker.image
    engine.remove_image(name)


def test_tagging_what_does_not_exist(maker: Maker) -> None:
    with pytest.raises(NotFoundError):
        maker.engine.tag("sha256:" + "0" * 64, f"orch-contract-image:{maker.mark[:12]}")


def build(maker: Maker, dockerfile: str, lines: list[str], name: str) -> str:
    return maker.engine.build(
        context=context_of(dockerfile),
        dockerfile="sub/Dockerfile",
        tags=(name,),
        build_args={"BASE_IMAGE": maker.image},
        labels={"given": maker.mark},
        network="none",
        on_line=lines.append,
    )


def test_a_build_makes_a_tagged_image_with_labels(maker: Maker) -> None:
    name, lines = f"orch-contract-built:{maker.mark[:12]}", list[str]()
    text = 'ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nLABEL own="its own"\n'
    try:
        made = build(maker, text, lines, name)
        assert maker.engine.find_image(name) == made
        assert made.startswith("sha256:")
        found = maker.engine.image_labels(made)
        assert (found["own"], found["given"]) == ("its own", maker.mark)
        assert any("FROM" in line for line in lines)
    finally:
        maker.engine.remove_image(name)
    assert maker.engine.find_image(name) is None


def test_a_build_that_fails_names_its_step(maker: Maker) -> None:
    name, lines = f"orch-contract-built:{maker.mark[:12]}", list[str]()
    with pytest.raises(ImageError, match=r"Step 3/\d : RUN exit 9"):
        build(maker, "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN exit 9\n", lines, name)
    assert maker.engine.find_image(name) is None


def test_a_build_on_an_image_that_does_not_exist(maker: Maker) -> None:
    with pytest.raises((ImageError, EngineError)):
        build(maker, "FROM localhost:1/no/such:image\n", [], f"orch-contract-built:{maker.mark[:12]}")


def test_a_pull_of_an_image_that_does_not_exist_fails(maker: Maker) -> None:
    with pytest.raises(ImageError, match="pulling localhost:1/no/such:image"):
        maker.engine.pull("localhost:1/no/such:image", 20)


def test_files_are_added_to_an_image_and_read_from_it(maker: Maker) -> None:
    name = f"orch-contract-files:{maker.mark[:12]}"
    engine = maker.engine
    try:
        made = engine.add_files(maker.image, make_tar({"deep/one": b"1", "two": b""}), name, {"of": "a test"})
        assert engine.find_image(name) == made != maker.image
        assert engine.image_labels(made)["of"] == "a test"
        assert engine.read_files(made, ("/deep/one", "/two", "/deep/none", "/deep")) == {
            "/deep/one": b"1",
            "/two": b"",
        }
        assert engine.read_files(maker.image, ("/two",)) == {}
    finally:
        engine.remove_image(name)
    with pytest.raises(NotFoundError):
        engine.add_files("sha256:" + "0" * 64, make_tar({}), name, {})


def test_import_rootfs_with_labels(maker: Maker) -> None:
    name = f"orch-contract-root:{maker.mark[:12]}"
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    held.seek(0)
    try:
        made = maker.engine.import_rootfs(held, name, {"of": "a test"})
        assert maker.engine.find_image(name) == made
        assert maker.engine.image_labels(made)["of"] == "a test"
    finally:
        maker.engine.remove_image(name)

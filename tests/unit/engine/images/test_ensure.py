# ruff: noqa: ARG002 - the engine in memory has the real one's signatures
import os
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.images import build_context, offline_base
from orchestrator.engine.images.build_context import context_report, default_base, open_context
from orchestrator.engine.images.ensure import ensure_images
from orchestrator.engine.images.offline_base import AptSource, machine_sources, parse_deb822, parse_one_line
from orchestrator.engine.locks import named_lock
from orchestrator.errors import ConfigError, ImageError
from orchestrator.model.profiles import ImageSpec


class MemoryImages:
    """Images of an engine in memory: names, labels, what was built from what."""

    def __init__(self, *local: str, pullable: tuple[str, ...] = (), build_seconds: float = 0.0) -> None:
        self.names = {name: f"sha256:{name}" for name in local}
        self.labels: dict[str, dict[str, str]] = {}
        self.pullable = pullable
        self.builds: list[dict] = []
        self.pulls: list[str] = []
        self.build_seconds = build_seconds
        self.lines: tuple[str, ...] = ()
        self.removed: list[str] = []
        self.prepared: list[str] = []
        self._lock = threading.Lock()

    def find_image(self, reference):
        if reference in self.names.values():
            return reference
        return self.names.get(reference)

    def image_labels(self, image_id):
        return self.labels.get(image_id, {})

    def image_bytes(self, image_id):
        return 1

    def pull(self, reference, timeout_seconds):
        self.pulls.append(reference)
        if reference not in self.pullable:
            raise ImageError(f"pulling {reference}: no route to host")
        self.names[reference] = f"sha256:{reference}"
        return self.names[reference]

    def build(self, *, context, dockerfile, tags, build_args, labels, network, on_line):
        with tarfile.open(fileobj=context) as archive:
            files = archive.getnames()
        for line in self.lines:
            on_line(line)
        time.sleep(self.build_seconds)
        with self._lock:
            image_id = f"sha256:built{len(self.builds)}"
            self.builds.append(
                {
                    "dockerfile": dockerfile,
                    "args": dict(build_args),
                    "network": network,
                    "files": files,
                    "tags": tags,
                }
            )
            self.labels[image_id] = dict(labels)
            self.names.update(dict.fromkeys(tags, image_id))
        return image_id

    def import_rootfs(self, archive, reference, labels):
        raise AssertionError("no root file system was expected")

    def read_files(self, image_id, paths):
        return {}

    def add_files(self, image_id, archive, reference, labels):
        self.names[reference] = image_id  # as if nothing had to be added
        self.prepared.append(image_id)
        return image_id

    def tag(self, image_id, reference):
        self.names[reference] = image_id

    def remove_image(self, reference):
        self.removed.append(reference)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "project"
    place.mkdir()
    (place / "Dockerfile").write_text("ARG BASE_IMAGE=small:1\nFROM ${BASE_IMAGE}\n")
    (place / "app.py").write_text("pass\n")
    return place


def spec(folder, name="app", **more):
    return ImageSpec(name=name, dockerfile=folder / "Dockerfile", context=folder, **more)


def ensure(engine, *specs, offline=False):
    lines: list[str] = []
    return ensure_images(engine, specs, offline_base=offline, on_line=lines.append), lines


# ---------------------------------------------------------------- the context


def stream_of(made):
    stream, dockerfile = open_context(made)
    with stream:
        return stream.read(), dockerfile


def test_the_stream_depends_on_names_and_bytes_only(tmp_path):
    streams = []
    for number, order in enumerate((["b", "a", "c"], ["c", "b", "a"])):
        place = tmp_path / str(number)
        place.mkdir()
        for name in order:
            (place / name).write_text(name)
            os.utime(place / name, (number * 1000, number * 1000))
        (place / "Dockerfile").write_text("FROM scratch\n")
        (place / "a").chmod(0o600 if number else 0o644)
        streams.append(stream_of(spec(place))[0])
    assert streams[0] == streams[1]


@pytest.mark.parametrize("change", ["content", "name", "executable", "link"])
def test_the_stream_changes_with_what_a_build_can_see(folder, change):
    before = stream_of(spec(folder))[0]
    file = folder / "app.py"
    if change == "content":
        file.write_text("pass  \n")
    elif change == "name":
        file.rename(folder / "other.py")
    elif change == "executable":
        file.chmod(0o755)
    else:
        (folder / "link").symlink_to("nowhere")
    assert stream_of(spec(folder))[0] != before


def test_dockerignore_shrinks_the_context_and_comments_are_no_patterns(folder):
    (folder / "big").write_bytes(b"x" * 100_000)
    (folder / ".dockerignore").write_text("# all but the app\n*\n\n!app.py\n")
    report = context_report(spec(folder))
    assert set(report.files) == {".dockerignore", "Dockerfile", "app.py"}
    assert report.bytes_with_ignore < 1000
    assert report.bytes_without_ignore > 100_000
    assert report.files_without_ignore == 4


@pytest.mark.parametrize("ignored", [None, "# nothing\n", "*\n"])
@pytest.mark.parametrize("outside", [False, True])
def test_what_needs_no_patterns_is_what_the_docker_client_would_send(folder, tmp_path, ignored, outside):
    (folder / "empty" / "in it").mkdir(parents=True)
    (folder / "link").symlink_to("empty")
    (folder / "broken").symlink_to("nowhere")
    patterns = [line for line in (ignored or "").split() if line == "*"]
    if ignored is not None:
        (folder / ".dockerignore").write_text(ignored)
    dockerfile = folder / "Dockerfile"
    if outside:
        dockerfile = dockerfile.rename(tmp_path / "Dockerfile.outside")
    inside = ".dockerignore" if outside else "Dockerfile"
    expected = exclude_paths(str(folder), patterns, dockerfile=inside)
    assert build_context._selected(folder, dockerfile) == tuple(sorted(expected))


def test_sockets_and_fifos_are_no_part_of_a_context(folder):
    os.mkfifo(folder / "fifo")
    engine = MemoryImages("small:1")
    ensure(engine, spec(folder))
    assert engine.builds[0]["files"] == ["Dockerfile", "app.py"]


def test_a_dockerfile_outside_of_its_context(folder, tmp_path):
    outside = tmp_path / "Dockerfile.other"
    outside.write_text("FROM scratch\n")
    engine = MemoryImages()
    ensure(engine, ImageSpec(name="app", dockerfile=outside, context=folder))
    assert engine.builds[0]["dockerfile"] in engine.builds[0]["files"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG BASE_IMAGE=alpine:3.22\nFROM ${BASE_IMAGE}\n", "alpine:3.22"),
        ('  arg BASE_IMAGE="a/b:c"  \nFROM $BASE_IMAGE\n', "a/b:c"),
        ("# ARG BASE_IMAGE=no\nFROM scratch\n", None),
        ("ARG BASE_IMAGE\nFROM $BASE_IMAGE\n", None),
    ],
)
def test_the_default_base(folder, text, expected):
    (folder / "Dockerfile").write_text(text)
    assert default_base(spec(folder)) == expected


def test_missing_files_are_named(folder):
    (folder / "Dockerfile").unlink()
    with pytest.raises(ImageError, match=str(folder)) as caught:
        ensure(MemoryImages(), spec(folder))
    assert caught.value.remedy


# ---------------------------------------------------------------- ensuring


def test_an_image_is_built_once_named_by_its_content_and_pinned_by_id(folder):
    engine = MemoryImages("small:1")
    first, _ = ensure(engine, spec(folder))
    second, _ = ensure(engine, spec(folder))
    assert first == second == {"app": "sha256:built0"}
    (build,) = engine.builds
    assert build["args"] == {"BASE_IMAGE": "sha256:small:1"}
    assert build["network"] is None
    assert [tag.split(":")[0] for tag in build["tags"]] == ["orch/test-app"] * 3
    assert "orch/test-app:latest" in build["tags"]
    assert engine.labels["sha256:built0"]["io.orch.image"] == "app"


@pytest.mark.parametrize("change", ["context", "dockerfile", "args", "base"])
def test_a_change_of_anything_that_matters_builds_anew(folder, change):
    engine = MemoryImages("small:1")
    made = spec(folder)
    ensure(engine, made)
    if change == "context":
        (folder / "app.py").write_text("changed\n")
    elif change == "dockerfile":
        (folder / "Dockerfile").write_text("ARG BASE_IMAGE=small:1\nFROM ${BASE_IMAGE}\nUSER 1\n")
    elif change == "args":
        made = spec(folder, build_args={"VERSION": "2"})
    else:
        engine.names["small:1"] = "sha256:newer"
    assert ensure(engine, made)[0] == {"app": "sha256:built1"}


def test_two_projects_with_one_name_get_each_their_own(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM scratch\nUSER 2\n")
    engine = MemoryImages("small:1")
    assert ensure(engine, spec(folder))[0] == {"app": "sha256:built0"}
    assert ensure(engine, spec(other))[0] == {"app": "sha256:built1"}
    assert ensure(engine, spec(folder))[0] == {"app": "sha256:built0"}
    assert len(engine.builds) == 2


def test_many_at_once_build_once(folder):
    engine = MemoryImages("small:1", build_seconds=0.2)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: ensure(engine, spec(folder))[0], range(16)))
    assert results == [{"app": "sha256:built0"}] * 16
    assert len(engine.builds) == 1


def test_many_at_once_pull_once():
    engine = MemoryImages(pullable=("python:3.13",))
    made = ImageSpec(name="py", reference="python:3.13")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ensure(engine, made), range(8)))
    assert engine.pulls == ["python:3.13"]


def test_a_base_that_is_an_image_of_its_own_is_built_first(folder):
    engine = MemoryImages("small:1")
    result, _ = ensure(engine, spec(folder, name="derived", base="plain"), spec(folder, name="plain"))
    assert result == {"plain": "sha256:built0", "derived": "sha256:built1"}
    assert engine.builds[1]["args"]["BASE_IMAGE"] == "sha256:built0"


def test_bases_in_a_circle_are_named(folder):
    with pytest.raises(ConfigError, match="a -> b -> a"):
        ensure(MemoryImages(), spec(folder, name="a", base="b"), spec(folder, name="b", base="a"))


def test_a_base_that_is_not_configured(folder):
    with pytest.raises(ConfigError, match="nowhere, which is not configured"):
        ensure(MemoryImages(), spec(folder, base="nowhere"))


def test_a_base_that_cannot_be_pulled_names_the_way_out(folder):
    with pytest.raises(ImageError, match="small:1 is not here") as caught:
        ensure(MemoryImages(), spec(folder))
    assert "--offline-base" in (caught.value.remedy or "")


def test_an_image_whose_base_is_gone_is_used_without_a_registry(folder):
    engine = MemoryImages("small:1")
    ensure(engine, spec(folder))
    del engine.names["small:1"]
    assert ensure(engine, spec(folder))[0] == {"app": "sha256:built0"}
    assert engine.pulls == []
    (folder / "app.py").write_text("changed\n")
    with pytest.raises(ImageError):
        ensure(engine, spec(folder))


def test_a_fresh_offline_base_is_used_again_and_builds_see_the_machines_network(folder, monkeypatch):
    engine = MemoryImages()
    release = offline_base._os_release(Path("/etc/os-release").read_text())
    reference = f"orch/offline-base:{release['VERSION_CODENAME']}-{os.uname().machine}"
    engine.names[reference] = "sha256:offline"
    engine.labels["sha256:offline"] = {offline_base.LABEL: datetime.now(UTC).isoformat()}
    result, lines = ensure(engine, spec(folder), offline=True)
    assert engine.builds[0]["args"] == {"BASE_IMAGE": "sha256:offline"}
    assert engine.builds[0]["network"] == "host"
    assert any("no registry answers for small:1" in line for line in lines)
    # an image built on it reaches the mirror too, although its own labels may be lost on the way
    ensure(engine, spec(folder), spec(folder, name="derived", base="app"))
    assert engine.builds[1]["network"] == "host"
    # and a later run needs neither the flag nor a registry
    assert ensure(engine, spec(folder))[0] == result


@pytest.mark.parametrize(
    ("made", "fresh"),
    [
        (datetime.now(UTC) - timedelta(days=29), True),
        (datetime.now(UTC) - timedelta(days=31), False),
    ],
)
def test_freshness(made, fresh):
    assert offline_base._is_fresh(made.isoformat()) is fresh
    assert not offline_base._is_fresh("")
    assert not offline_base._is_fresh("yesterday")


def test_only_our_own_unshipped_stages_are_removed(folder):
    engine = MemoryImages("small:1")
    engine.lines = (
        "Step 1/6 : FROM small:1 AS build",
        " ---> aaaaaaaaaaaa",
        "Step 2/6 : RUN one",
        " ---> Running in 0123456789ab",
        " ---> bbbbbbbbbbbb",
        "Step 3/6 : FROM small:1 AS other",
        " ---> aaaaaaaaaaaa",
        "Step 4/6 : RUN two",
        " ---> cccccccccccc",
        "Step 5/6 : FROM scratch",
        " ---> ",
        "Step 6/6 : COPY --from=build / /",
        " ---> dddddddddddd",
    )
    engine.labels["bbbbbbbbbbbb"] = {"io.orch.stage": "build"}
    ensure(engine, spec(folder))
    assert engine.removed == ["bbbbbbbbbbbb"]


def test_a_lock_tells_the_one_who_waits():
    waited = threading.Event()
    order: list[str] = []

    def second():
        with named_lock("x/y:z", waited.set):
            order.append("second")

    with named_lock("x/y:z"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


# ---------------------------------------------------------------- the machine's package sources

DEB822 = """\
Types: deb deb-src
URIs: http://one.invalid/debian
Suites: bookworm bookworm-updates
Components: main
# a comment inside
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.invalid/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://two.invalid/x
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""


def test_sources_in_the_newer_format():
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert parse_deb822(DEB822) == (
        AptSource(uri="http://one.invalid/debian", suite="bookworm", components=("main",), signed_by=keyring),
        AptSource(
            uri="http://one.invalid/debian", suite="bookworm-updates", components=("main",), signed_by=keyring
        ),
        AptSource(uri="http://two.invalid/x", suite="bookworm", components=("main",)),
    )


def test_sources_in_the_older_format():
    text = (
        "# deb http://no.invalid a main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://a.invalid/u noble main universe # why\n"
        "deb-src http://b.invalid x main\n"
    )
    (source,) = parse_one_line(text)
    assert source.components == ("main", "universe")
    assert source.line() == "deb [signed-by=/usr/share/keyrings/k.gpg] http://a.invalid/u noble main universe"


@given(st.text())
def test_no_text_breaks_the_parsers(text):
    for source in (*parse_one_line(text), *parse_deb822(text)):
        assert "\n" not in source.line()


def test_only_sources_of_the_own_release_that_a_container_can_reach(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "deb http://a.invalid/d noble main\ndeb http://a.invalid/d noble-security main\n"
        "deb http://a.invalid/d jammy main\ndeb file:/media noble main\ndeb http://tool.invalid stable main\n"
    )
    (tmp_path / "sources.list.d" / "x.sources").write_text(
        "Types: deb\nURIs: cdrom:x\nSuites: noble\nComponents: main\n"
    )
    assert [source.suite for source in machine_sources("noble", tmp_path)] == ["noble", "noble-security"]
    with pytest.raises(ImageError, match="no http source for bookworm"):
        machine_sources("bookworm", tmp_path)

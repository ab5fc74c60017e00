"""What a build context contains is remembered, and never wrongly."""

from __future__ import annotations

import json
import os
import time

import pytest

from orchestrator.engine.images import build_context
from orchestrator.engine.images.build_context import context_digest, digest_of, open_context
from orchestrator.model.profiles import ImageSpec

REMEMBERED = "remembered"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build_context, "SETTLED_SECONDS", -60.0)
    return tmp_path / "cache" / "orch" / "contexts"


@pytest.fixture
def spec(tmp_path):
    place = tmp_path / "project"
    (place / "inner").mkdir(parents=True)
    (place / "Dockerfile").write_text("FROM scratch\n")
    (place / "inner" / "app.py").write_text("pass\n")
    (place / "link").symlink_to("inner")
    return ImageSpec(name="app", dockerfile=place / "Dockerfile", context=place)


def mark(cache):
    """Change what is remembered, so that it can be told from what is read."""
    (file,) = cache.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"content": REMEMBERED}))


def read(spec):
    stream, dockerfile = open_context(spec)
    with stream:
        return digest_of(stream), dockerfile


def test_it_is_the_streams_digest_and_then_not_read_again(spec, cache):
    assert context_digest(spec) == read(spec)
    mark(cache)
    assert context_digest(spec) == (REMEMBERED, "Dockerfile")


def rewrite_keeping_size_and_times(folder):
    file = folder / "inner" / "app.py"
    before = file.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    file.write_text("PASS\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def relink(folder):
    (folder / "link").unlink()
    (folder / "link").symlink_to("outer")


CHANGES = {
    "bytes": rewrite_keeping_size_and_times,
    "a new file": lambda folder: (folder / "inner" / "new").touch(),
    "a file gone": lambda folder: (folder / "inner" / "app.py").unlink(),
    "a name": lambda folder: (folder / "inner" / "app.py").rename(folder / "inner" / "b.py"),
    "a mode": lambda folder: (folder / "inner" / "app.py").chmod(0o755),
    "a link": relink,
    "the Dockerfile": lambda folder: (folder / "Dockerfile").write_text("FROM scratcH\n"),
    ".dockerignore": lambda folder: (folder / ".dockerignore").write_text("inner\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_seen(spec, cache, change):
    context_digest(spec)
    mark(cache)
    change(spec.context)
    assert context_digest(spec) == read(spec)


def test_a_dockerfile_elsewhere_is_part_of_it(spec, cache, tmp_path):
    elsewhere = tmp_path / "Dockerfile"
    elsewhere.write_text("FROM scratch\n")
    foreign = ImageSpec(name="app", dockerfile=elsewhere, context=spec.context)
    assert context_digest(foreign) == read(foreign)
    mark(cache)
    assert context_digest(foreign)[0] == REMEMBERED
    elsewhere.write_text("FROM scratch\nUSER 1\n")
    assert context_digest(foreign) == read(foreign)


def test_what_has_just_changed_is_not_remembered(spec, cache, monkeypatch):
    monkeypatch.setattr(build_context, "SETTLED_SECONDS", 60.0)
    context_digest(spec)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"state": 1}'])
def test_a_damaged_memory_is_made_anew(spec, cache, damage):
    context_digest(spec)
    (file,) = cache.iterdir()
    file.write_text(damage)
    assert context_digest(spec) == read(spec)
    assert json.loads(file.read_text())["content"] == read(spec)[0]


def test_of_large_contexts_and_of_those_that_send_nothing_else_nothing_is_remembered(spec, cache, monkeypatch):
    monkeypatch.setattr(build_context, "MOST_FILES", 3)
    assert context_digest(spec) == read(spec)
    monkeypatch.setattr(build_context, "MOST_FILES", 5000)
    (spec.context / ".dockerignore").write_text("*\n")
    assert context_digest(spec) == read(spec)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_done_without(spec, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert context_digest(spec) == read(spec)

"""The image that the agent runs in: what is added to it, and that it is made once."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.engine.images.agent_shell import (
    LABEL,
    REPOSITORY,
    SHELL,
    SOURCE_LABEL,
    find_prepared,
    prepared_image,
    with_entry,
)
from orchestrator.testing.agent import play_test
from orchestrator.testing.engine import FakeEngine
from tests.support.handmade import make_tar

OURS = b"testuser:x:1001:1001:runs the tests:/tmp:/bin/sh\n"
ROOT = b"root:x:0:0:root:/root:/bin/sh\n"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return FakeEngine(play_test(lambda _: 0))


def image(engine, **files):
    bare = engine.import_rootfs(io.BytesIO(b"x"), "foreign:1", {"theirs": "kept"})
    return engine.add_files(bare, make_tar(files), "foreign:2", {}) if files else bare


def test_a_shell_and_the_user_are_added(engine):
    source = image(engine, **{"bin/sh": b"shell", "etc/passwd": ROOT, "etc/group": b"root:x:0:\n"})
    assert find_prepared(engine, source) is None
    made = prepared_image(engine, source)
    assert find_prepared(engine, source) == find_prepared(engine, made) == made
    found = engine.read_files(made, (SHELL, "/bin/sh", "/etc/passwd", "/etc/group"))
    assert found == {
        SHELL: b"shell",
        "/bin/sh": b"shell",
        "/etc/passwd": OURS + ROOT,
        "/etc/group": b"testuser:x:1001:\nroot:x:0:\n",
    }
    labels = engine.image_labels(made)
    assert (labels["theirs"], labels[SOURCE_LABEL]) == ("kept", source)
    assert labels[LABEL]


def test_it_is_made_once_and_not_of_itself(engine, monkeypatch):
    source = image(engine, **{"bin/sh": b"shell"})
    made = []
    add_files = engine.add_files
    monkeypatch.setattr(engine, "add_files", lambda *args: made.append(args) or add_files(*args))
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: prepared_image(engine, source), range(8)))
    assert len(ids) == len(made) == 1
    assert prepared_image(engine, ids.pop()) == engine.find_image(made[0][2])
    assert made[0][2].startswith(f"{REPOSITORY}:")


def test_an_image_without_shell_and_tables_gets_tables(engine):
    made = prepared_image(engine, image(engine))
    found = engine.read_files(made, (SHELL, "/etc/passwd", "/etc/group"))
    assert found == {"/etc/passwd": OURS + ROOT, "/etc/group": b"testuser:x:1001:\nroot:x:0:\n"}


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        (ROOT + OURS, False),
        (OURS, False),
        (ROOT, True),
        (b"node:x:1001:1001::/home/node:/bin/sh\n", True),
        (b"node:x:1001:1001::/home/node:/bin/sh\n" + OURS, True),
        (b"testuser:x:500:500::/:/bin/sh\n", True),
        (b"\n#1001:x:\nbroken\n", True),
        (b"", True),
    ],
)
def test_the_number_has_our_name_first(table, changed):
    assert with_entry(table, OURS) == (OURS + table if changed else table)

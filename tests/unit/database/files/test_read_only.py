"""Opening a database for reading changes nothing and refuses an unusable file (CASES D7, D8)."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from orchestrator.database.files.open import location_of
from orchestrator.database.queries.runs import list_runs, load_run
from orchestrator.database.store.store import Database
from orchestrator.errors import ExitCode, UnusableDatabaseError
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import finish, make_old, make_result, make_run


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reading(folder, **more):
    return Database.open(None, state_dir=folder, reading=True, **more)


@pytest.fixture
def filled(tmp_path):
    run = make_run()
    with Database.open(None, state_dir=tmp_path / "state") as database:
        database.begin_run(run, [])
        for number in range(20):
            database.record(run.id, make_result(run, f"{number}.py"))
        finish(database, run)
    return tmp_path / "state" / "resources.db"


def spoil(path, how):
    match how:
        case "noise":
            path.write_bytes(os.urandom(8192))
        case "short noise":
            path.write_bytes(b"x")
        case "truncated":
            os.truncate(path, path.stat().st_size - 8192)
        case "foreign":
            path.unlink()
            with plain_sqlite(path) as connection:
                connection.execute("CREATE TABLE attempts (theirs)")
            connection.close()
        case "damaged":
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"\xff" * 3000)
        case "newer":
            with plain_sqlite(path) as connection:
                connection.execute("UPDATE alembic_version SET version_num = '9999'")
                connection.execute("PRAGMA user_version = 9999")
            connection.close()
        case "log":
            path.with_name(f"{path.name}-wal").write_bytes(b"noise" * 1000)


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("noise", "is not a database, not one of orch"),
        ("short noise", "is not a database, not one of orch"),
        ("truncated", "is damaged (it is shorter than it says)"),
        ("foreign", "is another program's SQLite database, not one of orch"),
        ("damaged", "is damaged"),
        ("newer", "has schema 9999"),
        ("log", "has a damaged write-ahead log"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_changed(filled, how, what):
    spoil(filled, how)
    before = everything(filled.parent)
    with pytest.raises(UnusableDatabaseError) as caught:
        reading(filled.parent)
    assert caught.value.exit_code is ExitCode.USAGE
    assert f"{filled} {what}" in caught.value.message
    assert "nothing was changed" in (caught.value.remedy or "")
    assert everything(filled.parent) == before


def test_where_there_is_none_an_empty_one_is_read_and_none_is_made(tmp_path):
    with reading(tmp_path / "none") as database:
        assert list_runs(database, 10) == ()
        assert database.place == str(tmp_path / "none" / "resources.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "resources.db").touch()
    with reading(tmp_path) as database:
        assert list_runs(database, 10) == ()
    assert everything(tmp_path) == {(tmp_path / "resources.db").relative_to(tmp_path): b""}


def test_an_older_one_is_read_in_a_copy(tmp_path):
    make_old(f"sqlite:///{tmp_path / 'resources.db'}", "test/0.py")
    before = everything(tmp_path)
    with reading(tmp_path) as database:
        assert list_runs(database, 10) is not None
    assert everything(tmp_path) == before


def test_what_is_read_while_it_is_written_is_what_was_committed(filled):
    run = make_run()
    with Database.open(None, state_dir=filled.parent) as writer:
        writer.begin_run(run, [], owner="me")
        writer.record(run.id, make_result(run, "new.py"))
        code = (
            "import sys; from pathlib import Path; from orchestrator.database.store.store import Database;"
            "from orchestrator.database.queries.runs import load_run;"
            "d = Database.open(None, state_dir=Path(sys.argv[1]), reading=True, owner_alive=lambda _: True);"
            "print(len(load_run(d, sys.argv[2]).attempts)); d.close()"
        )
        words = [sys.executable, "-c", code, str(filled.parent), run.id]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1\n"
        assert writer.record(run.id, make_result(run, "newer.py"))
        finish(writer, run)
    with reading(filled.parent) as database:
        assert len(load_run(database, run.id).attempts) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's files: only root can become somebody else")
@pytest.mark.parametrize("log", [False, True])
def test_no_right_to_write_is_needed(filled, log):
    if log:  # as a kill leaves it
        run = make_run()
        with Database.open(None, state_dir=filled.parent) as database:
            database.begin_run(run, [])
            database.record(run.id, make_result(run))
            killed = filled.parent.parent / "killed"
            shutil.copytree(filled.parent, killed)
        filled = killed / filled.name
        assert filled.with_name("resources.db-wal").stat().st_size > 0
    for path in filled.parent.iterdir():
        path.chmod(0o444)
    filled.parent.chmod(0o555)
    before = everything(filled.parent)
    for folder in (filled.parent, *filled.parent.parents):  # pytest's folders are closed to others
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(1001)
            os.setuid(1001)
            with reading(filled.parent) as database:
                code = 0 if len(list_runs(database, 10)) == (2 if log else 1) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert everything(filled.parent) == before


def test_after_damage_in_a_run_the_next_open_checks_the_file(filled):
    """Damage must not make all later runs fail: the next run sets the file aside."""
    with plain_sqlite(filled) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    connection.close()
    with filled.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(os.urandom(4096))
    with reading(filled.parent) as database, pytest.raises(UnusableDatabaseError, match="is damaged"):
        list_runs(database, 10)
    with Database.open(None, state_dir=filled.parent) as database:
        assert any("set-aside" in notice and "a new one is begun" in notice for notice in database.notices)
        assert list_runs(database, 10) == ()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (None, "/somewhere/resources.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("postgresql://me:secret@h/x", "postgresql+psycopg://me:***@h/x"),
    ],
)
def test_the_location_is_known_without_opening_the_database(tmp_path, url, place):
    assert location_of(url, state_dir=tmp_path.__class__("/somewhere")) == place

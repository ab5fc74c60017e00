"""Faults of the database (FAULTS D1 to D6), on real files, with real processes and a full file system."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from orchestrator.database.queries.runs import load_run
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.database.store.store import BATCH_RESULTS, BATCH_SECONDS, Database
from orchestrator.errors import DatabaseError
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import finish, make_old, make_result, make_run

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 1000 if os.environ.get("ORCH_FAULTS") == "all" else 50


class Writer:
    """A process that records results until it is killed, and prints each committed one. With `soon` it prints each
    result passed to `record_soon`, and sleeps after `results` of them.
    """

    def __init__(self, state: Path, *, soon: bool = False, results: int = 1_000_000) -> None:
        read, write = os.pipe()
        self.pid = os.fork()  # forked and not started, so that a thousand of them need no thousand imports
        if self.pid == 0:
            os.close(read)
            self._work(state, write, soon, results)
        os.close(write)
        self.said = os.fdopen(read)

    @staticmethod
    def _work(state: Path, pipe: int, soon: bool, results: int) -> None:
        try:
            run = make_run()
            with Database.open(None, state_dir=state) as database:
                database.begin_run(run, [], owner="writer")
                os.write(pipe, f"{run.id}\n".encode())
                record = database.record_soon if soon else database.record
                for number in range(results):
                    record(run.id, make_result(run, f"test/{number}.py"))
                    os.write(pipe, f"{number}\n".encode())
                time.sleep(600)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must read it
            os.write(pipe, f"{error!r}\n".encode())
        finally:
            os._exit(1)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> list[str]:
        """Return all printed lines. The process must have been ended by our kill."""
        with self.said:
            lines = self.said.read().splitlines()
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == -signal.SIGKILL, lines[-1:]
        return lines


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Do imports and prepare statements before writers are forked, because a slow machine may need longer for this
    than a writer lives.
    """
    run = make_run()
    with Database.open(None, state_dir=tmp_path_factory.mktemp("warm")) as database:
        database.begin_run(run, [])
        database.record(run.id, make_result(run, "a.py"))
        for number in range(BATCH_RESULTS):
            database.record_soon(run.id, make_result(run, f"{number}.py"))
        finish(database, run)


def integrity(path: Path) -> str:
    with plain_sqlite(path) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


@pytest.fixture
def filled(tmp_path):
    """Return a state folder whose database has a finished run of twenty results."""
    run = make_run()
    with Database.open(None, state_dir=tmp_path) as database:
        database.begin_run(run, [])
        for number in range(20):
            database.record(run.id, make_result(run, f"{number}.py"))
        finish(database, run)
    return tmp_path / "resources.db"


@contextmanager
def tmpfs(folder: Path, size: str):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        # Lazy: a traceback that pytest keeps may hold a cursor, and with it the file.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")


# ---------------------------------------------------------------- D1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_d1_kill_of_the_writer_loses_no_committed_result(tmp_path):
    state, acknowledged = tmp_path / "state", {}
    for _ in range(KILLS):
        process = Writer(state)
        run_id, read = process.said.readline().strip(), random.randrange(20)
        assert all(process.said.readline() for _ in range(read))
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        acknowledged[run_id] = read + len(process.wait())
    assert sum(acknowledged.values()) > KILLS, "the writers did write"
    with Database.open(None, state_dir=state, owner_alive=lambda _: False) as database:
        assert not [n for n in database.notices if "damaged" in n or "imported" in n]
        for run_id, results in acknowledged.items():
            record = load_run(database, run_id)
            assert record.run.status == "interrupted"
            stored = sorted(int(a.test_id.path[5:-3]) for a in record.final_attempts)
            # The result after the last acknowledged one may have been committed before the kill.
            assert stored in (list(range(results)), list(range(results + 1)))
    assert integrity(state / "resources.db") == "ok"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_d1_kill_of_a_writer_of_batches_loses_no_more_than_one(tmp_path):
    state, given = tmp_path / "state", {}
    for _ in range(KILLS):
        process = Writer(state, soon=True)
        run_id = process.said.readline().strip()
        # Waits for results and not only for a time, because a disk may be slower than any time chosen here.
        read = random.randrange(3 * BATCH_RESULTS)
        assert all(process.said.readline() for _ in range(read))
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        given[run_id] = read + len(process.wait())
    lost = []
    with Database.open(None, state_dir=state, owner_alive=lambda _: False) as database:
        assert not [n for n in database.notices if "damaged" in n or "imported" in n]
        for run_id, results in given.items():
            stored = sorted(int(a.test_id.path[5:-3]) for a in load_run(database, run_id).final_attempts)
            assert stored == list(range(len(stored))), "none is missing in between"
            lost.append(results - len(stored))
    assert max(given.values()) > BATCH_RESULTS, "there were whole batches"
    assert max(lost) <= BATCH_RESULTS
    assert integrity(state / "resources.db") == "ok"


def test_d1_a_result_is_committed_with_its_batch(tmp_path):
    """In one of three attempts at the latest: on a busy machine the writer itself may wait for a CPU."""
    for attempt in range(3):
        state = tmp_path / str(attempt)
        process = Writer(state, soon=True, results=3)
        run_id = process.said.readline().strip()
        for _ in range(3):
            process.said.readline()
        time.sleep(BATCH_SECONDS + 1.0)
        process.kill()
        process.wait()
        with Database.open(None, state_dir=state, owner_alive=lambda _: False) as database:
            stored = len(load_run(database, run_id).final_attempts)
        if stored == 3:
            return
    pytest.fail(f"{stored} of 3 results were stored")


def test_d1_kill_during_creation_leaves_nothing_half_made(tmp_path):
    for attempt in range(30):
        state = tmp_path / str(attempt)
        process = Writer(state)
        deadline = time.monotonic() + 30
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(attempt * 0.001)
        process.kill()
        process.wait()
        with Database.open(None, state_dir=state) as database:
            assert database.notices == ()
        assert integrity(state / "resources.db") == "ok"


def test_d1_what_a_killed_creation_left_is_removed_by_the_next(tmp_path):
    """The next start removes the half-made database of a killed one (CASES D6)."""
    state = tmp_path / "state"
    process = Writer(state)
    deadline = time.monotonic() + 30
    while not list(state.glob("resources.db.new-*")) and time.monotonic() < deadline:
        pass
    process.kill()
    process.wait()
    living = state / f"resources.db.new-{os.getppid()}"
    for name in (f"resources.db.new-{process.pid}", f"resources.db.new-{process.pid}-journal", living.name):
        (state / name).touch()
    (state / "resources.db.new-1").touch()
    os.utime(state / "resources.db.new-1", (1, 1))
    Database.open(None, state_dir=state, reading=True).close()
    assert len(list(state.glob("*.new-*"))) >= 4, "who reads changes nothing"
    Database.open(None, state_dir=state).close()
    assert list(state.glob("*.new-*")) == [living]
    assert integrity(state / "resources.db") == "ok"


# ---------------------------------------------------------------- D2


@pytest.mark.parametrize("held_seconds", [30 if os.environ.get("ORCH_FAULTS") == "all" else 6])
def test_d2_a_foreign_write_lock_is_waited_for(filled, held_seconds):
    program = (
        f"import sqlite3, time; c = sqlite3.connect({str(filled)!r}, isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print(time.monotonic(), flush=True);"
        f"time.sleep({held_seconds}); c.execute('COMMIT')"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    locked_at = float(holder.stdout.readline())
    run = make_run()
    with Database.open(None, state_dir=filled.parent) as database:
        database.begin_run(run, [])
        assert time.monotonic() - locked_at >= held_seconds, "it did wait"
        assert database.record(run.id, make_result(run))
        finish(database, run)
        assert len(load_run(database, run.id).attempts) == 1
    assert holder.wait() == 0
    holder.stdout.close()


# ---------------------------------------------------------------- D3


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return ballast


@needs_root
@pytest.mark.parametrize("fallback", [True, False])
def test_d3_a_full_disk_spools_and_the_next_open_imports(tmp_path, fallback):
    elsewhere = tmp_path / "elsewhere"
    with tmpfs(tmp_path / "small", "4m") as small:
        state, run = small / "state", make_run()
        with Database.open(None, state_dir=state, spool_fallback=[elsewhere] if fallback else []) as database:
            database.begin_run(run, [], owner="me")
            database.record(run.id, make_result(run, "before.py"))
            ballast = fill(small)
            for number in range(300):  # more than the free pages of the log
                database.record(run.id, make_result(run, f"{number}.py"))
                if number == 250 and not fallback:
                    ballast.unlink()  # there is room again, and the run is still spooled
            with pytest.raises(DatabaseError, match="full") as caught:
                finish(database, run, exit_code=1)
            assert "imported by the next run" in str(caught.value.remedy)
            assert caught.value.exit_code == 36
        ballast.unlink(missing_ok=True)
        with Database.open(None, state_dir=state, spool_fallback=[elsewhere]) as database:
            assert any("imported" in notice for notice in database.notices), database.notices
            record = load_run(database, run.id)
            assert len(record.final_attempts) == 301
            assert (record.run.status, record.run.exit_code) == ("finished", 1)
        assert integrity(state / "resources.db") == "ok"
        with Database.open(None, state_dir=state, spool_fallback=[elsewhere]) as database:
            assert database.notices == (), "imported once"
    assert not list(elsewhere.glob("*")) if fallback else True


@needs_root
def test_d3_a_full_disk_spools_a_whole_batch(tmp_path):
    with tmpfs(tmp_path / "small", "4m") as small:
        state, run = small / "state", make_run()
        with Database.open(None, state_dir=state, spool_fallback=[tmp_path / "elsewhere"]) as database:
            database.begin_run(run, [], owner="me")
            ballast = fill(small)
            for number in range(320):
                database.record_soon(run.id, make_result(run, f"{number}.py"))
            with pytest.raises(DatabaseError, match="full"):
                finish(database, run, exit_code=1)
        ballast.unlink()
        with Database.open(None, state_dir=state, spool_fallback=[tmp_path / "elsewhere"]) as database:
            assert any("imported" in notice for notice in database.notices), database.notices
            assert len(load_run(database, run.id).final_attempts) == 320


@needs_root
def test_d3_without_room_anywhere_the_number_of_lost_results_is_reported(tmp_path):
    with tmpfs(tmp_path / "small", "4m") as small:
        run = make_run()
        with Database.open(None, state_dir=small / "state") as database:
            database.begin_run(run, [])
            fill(small)
            for number in range(300):
                database.record(run.id, make_result(run, f"{number}.py"))
            with pytest.raises(DatabaseError, match=r"\d+ records had no room anywhere and are lost"):
                finish(database, run)


@needs_root
def test_d3_a_full_disk_at_the_start_is_a_clear_error(tmp_path):
    with tmpfs(tmp_path / "small", "64k") as small:
        fill(small)
        with pytest.raises(DatabaseError) as caught:
            Database.open(None, state_dir=small / "state")
        assert "space" in str(caught.value.remedy)


def test_d3_a_line_that_cannot_be_read_is_kept_and_the_rest_imported(filled):
    spool = filled.parent / "spool" / "x.jsonl"
    spool.parent.mkdir()
    spool.write_text('{"version": 1, "kind": "resu\n')
    with Database.open(None, state_dir=filled.parent) as database:
        assert any("cannot be read" in notice for notice in database.notices)
    (kept,) = spool.parent.glob("x.jsonl.set-aside-*")
    assert kept.read_text().startswith('{"version"')


# ---------------------------------------------------------------- D4


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def make_foreign(path: Path) -> None:
    with plain_sqlite(path) as connection:
        connection.execute("CREATE TABLE attempts (theirs)")
    connection.close()


@pytest.mark.parametrize("content", [b"noise" * 1000, b"x", os.urandom(8192), b"SQLite format 3\x00"])
def test_d4_a_file_of_random_bytes_is_set_aside_unchanged(tmp_path, content):
    path = tmp_path / "resources.db"
    path.write_bytes(content)
    with Database.open(None, state_dir=tmp_path) as database:
        (notice,) = database.notices
        assert "kept as" in notice
        run = make_run()
        database.begin_run(run, [])
    assert only(tmp_path, "resources.db.set-aside-*").read_bytes() == content


def test_d4_a_foreign_database_is_set_aside_unchanged(tmp_path):
    make_foreign(tmp_path / "resources.db")
    content = (tmp_path / "resources.db").read_bytes()
    with Database.open(None, state_dir=tmp_path) as database:
        assert "another program's" in database.notices[0]
    assert only(tmp_path, "resources.db.set-aside-*").read_bytes() == content


def test_d4_a_foreign_file_that_the_user_named_stays_where_it_is(tmp_path):
    make_foreign(tmp_path / "theirs.db")
    content = (tmp_path / "theirs.db").read_bytes()
    with pytest.raises(DatabaseError, match="another program's"):
        Database.open(f"sqlite:///{tmp_path}/theirs.db", state_dir=tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"theirs.db": content}


def test_d4_a_file_cut_short_is_set_aside(filled):
    os.truncate(filled, filled.stat().st_size - 8192)
    content = filled.read_bytes()
    with Database.open(None, state_dir=filled.parent) as database:
        assert "damaged" in database.notices[0]
    assert only(filled.parent, "resources.db.set-aside-*").read_bytes() == content


def test_d4_a_damaged_schema_is_set_aside(filled):
    with filled.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    content = filled.read_bytes()
    with Database.open(None, state_dir=filled.parent) as database:
        assert "damaged" in database.notices[0]
    kept = only(filled.parent, "resources.db.set-aside-*")
    assert kept.read_bytes() == content
    assert integrity(filled) == "ok"


def test_d4_damage_found_in_mid_run_spools_and_the_next_open_sets_aside(filled):
    run = make_run()
    with plain_sqlite(filled) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'attempts'"
        (page,) = connection.execute(query).fetchone()
    connection.close()
    with filled.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(os.urandom(4096))
    with Database.open(None, state_dir=filled.parent) as database:
        database.begin_run(run, [])
        database.record(run.id, make_result(run))
        with pytest.raises(DatabaseError):
            finish(database, run)
    with Database.open(None, state_dir=filled.parent) as database:
        assert any("set-aside" in notice for notice in database.notices)
        assert len(load_run(database, run.id).final_attempts) == 1, "the spooled run is in the new database"
    assert integrity(filled) == "ok"


def copy_mid_run(tmp_path: Path) -> Path:
    """Return a copy of an open database and its log, as a kill would leave them."""
    run = make_run()
    with Database.open(None, state_dir=tmp_path / "live") as database:
        database.begin_run(run, [])
        for number in range(20):
            database.record(run.id, make_result(run, f"{number}.py"))
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    (tmp_path / "copy" / "resources.db-shm").unlink()
    assert (tmp_path / "copy" / "resources.db-wal").stat().st_size > 100_000
    return tmp_path / "copy" / "resources.db"


def test_d4_a_log_left_by_a_kill_is_replayed_without_a_notice(tmp_path):
    path = copy_mid_run(tmp_path)
    with Database.open(None, state_dir=path.parent) as database:
        assert database.notices == ()
        assert len(load_run(database, "latest").final_attempts) == 20


FRAME_BYTES = 24 + 4096


@pytest.mark.parametrize("killed", ["after the header of a frame", "within its page", "over an older log"])
def test_d4_a_half_written_frame_is_ignored_without_a_notice(tmp_path, killed):
    path = copy_mid_run(tmp_path)
    log = path.with_name("resources.db-wal")
    with log.open("r+b") as file:
        head, size = file.read(32), log.stat().st_size
        file.seek(size - FRAME_BYTES)
        last = file.read(FRAME_BYTES)
        match killed:
            case "after the header of a frame":
                file.write(last[:24])
            case "within its page":
                file.write(last[: 4096 - size % 4096])
            case "over an older log":
                file.seek(size - 4096)
                file.write(os.urandom(4096))
                older = bytearray(last)
                older[8:12] = (int.from_bytes(head[16:20]) - 1).to_bytes(4)
                file.write(older)
    with Database.open(None, state_dir=path.parent) as database:
        assert database.notices == ()
        assert len(load_run(database, "latest").final_attempts) == (19 if killed == "over an older log" else 20)
    assert not list(path.parent.glob("*set-aside*"))
    assert integrity(path) == "ok"


@pytest.mark.parametrize("damage", ["header", "middle", "torn"])
def test_d4_a_damaged_log_is_kept_and_what_is_whole_is_used(tmp_path, damage):
    path = copy_mid_run(tmp_path)
    log = path.with_name("resources.db-wal")
    with log.open("r+b") as file:
        match damage:
            case "header":
                file.write(b"noise" * 8)
            case "middle":
                file.seek(log.stat().st_size // 2)
                file.write(b"noise" * 1000)
            case "torn":
                file.truncate(log.stat().st_size // 4120 * 4120 - 100)
    content = log.read_bytes()
    with Database.open(None, state_dir=path.parent) as database:
        assert any("log" in notice for notice in database.notices)
        with database.reading() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar()
        assert count < 20 if damage == "header" else 0 < count < 20
        run = make_run()
        database.begin_run(run, [])
        assert database.record(run.id, make_result(run)), "and it can be written"
    assert only(path.parent, "resources.db-wal.set-aside-*").read_bytes() == content
    assert integrity(path) == "ok"


def test_d4_a_log_without_its_database_is_not_replayed_into_a_new_one(tmp_path):
    path = copy_mid_run(tmp_path)
    path.unlink()
    content = path.with_name("resources.db-wal").read_bytes()
    with Database.open(None, state_dir=path.parent) as database:
        assert "log without its database" in database.notices[0]
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0
    assert only(path.parent, "resources.db.set-aside-*-wal").read_bytes() == content


# ---------------------------------------------------------------- D5


def test_d5_a_newer_schema_is_refused_unchanged(filled):
    with plain_sqlite(filled) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    content = filled.read_bytes()
    with pytest.raises(DatabaseError, match="schema 9999") as caught:
        Database.open(None, state_dir=filled.parent)
    assert "upgrade orch" in str(caught.value.remedy)
    assert caught.value.exit_code == 2
    assert {p.name: p.read_bytes() for p in filled.parent.iterdir()} == {"resources.db": content}


def test_d5_an_older_schema_is_migrated_after_a_backup(tmp_path):
    old = tmp_path / "resources.db"
    run = make_old(f"sqlite:///{old}", "a.py", "b.py")
    with Database.open(None, state_dir=tmp_path) as database:
        (notice,) = database.notices
        assert f"from schema 7 to {SCHEMA_VERSION}" in notice
        assert len(load_run(database, run.id).final_attempts) == 2
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM worst_memory").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    backup = only(tmp_path, "resources.db.backup-*")
    assert str(backup) in notice
    with plain_sqlite(backup) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0007",)
        assert connection.execute("SELECT count(*) FROM attempts").fetchone() == (2,)
    with Database.open(None, state_dir=tmp_path) as database:
        assert database.notices == ()


# ---------------------------------------------------------------- D6


def test_d6_without_shared_memory_there_is_no_log_but_a_notice(tmp_path):
    # SQLite's dot-file locking simulates a file system that cannot map shared memory.
    url = f"sqlite:///file:{tmp_path}/resources.db?vfs=unix-dotfile&uri=true"
    run = make_run()
    with Database.open(url, state_dir=tmp_path) as database:
        assert "cannot hold a write-ahead log" in database.notices[0]
        database.begin_run(run, [])
        assert database.record(run.id, make_result(run))
        finish(database, run)
        assert len(load_run(database, run.id).attempts) == 1
    assert integrity(tmp_path / "resources.db") == "ok"

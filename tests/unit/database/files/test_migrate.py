"""Older databases are upgraded, in a file and on a server, and unusable ones are refused."""

import re
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from orchestrator.database.files import migrate
from orchestrator.database.files.connect import WRITE, make_engine, parse_url
from orchestrator.database.queries.runs import list_runs, load_run
from orchestrator.database.queries.usage import usage_report
from orchestrator.database.queries.violations import load_violations
from orchestrator.database.rollups import daily
from orchestrator.database.rows import bundles
from orchestrator.database.schema.tables import daily_usage, metadata, stale_days
from orchestrator.database.schema.version import APPLICATION_ID, SCHEMA_VERSION
from orchestrator.database.schema.views import VIEWS
from orchestrator.database.store.store import Database
from orchestrator.errors import DatabaseError, UnusableDatabaseError, UsageError
from orchestrator.model.evidence import Launch, SlotUse
from orchestrator.model.usage import Usage
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import (
    days_ago,
    make_old,
    make_result,
    make_run,
    write_before_schema_9,
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request, tmp_path):
    """Return the URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'old.db'}"
    return request.getfixturevalue("postgres").create()


def test_an_old_database_keeps_its_runs_and_sums_them_up(empty_url, tmp_path):
    run = make_old(empty_url, "a.py", "b.py")
    with Database.open(empty_url, state_dir=tmp_path) as database:
        assert any(f"from schema 7 to {SCHEMA_VERSION}" in notice for notice in database.notices)
        assert len(load_run(database, run.id).attempts) == 2
        broken = load_violations(database, since=days_ago(13), until=days_ago(11))
        assert [(one.test_id.path, one.started_at) for one in broken] == [
            ("a.py", days_ago(12)),
            ("b.py", days_ago(12)),
        ]
        with database.reading() as connection:
            waiting = connection.execute(sa.select(stale_days.c.day)).scalars().all()
            assert waiting == [days_ago(12).date().isoformat()]
            for view in VIEWS:
                connection.exec_driver_sql(f"SELECT * FROM {view.name}").fetchall()
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
        before = usage_report(database)
        assert database.sum_up() == 1
        assert [row.maximum for row in usage_report(database)] == [row.maximum for row in before]
    with Database.open(empty_url, state_dir=tmp_path) as database:
        assert database.notices == ()


@pytest.fixture
def written_by_the_old_orch(tmp_path):
    """A SQLite file with two runs that the last orch of schema 7 recorded and summed up, from its dump."""
    path = tmp_path / "resources.db"
    with plain_sqlite(path) as connection:
        connection.executescript((Path(__file__).parent / "revision_0007.sql").read_text())
    connection.close()
    return path


def tables_and_indexes(path):
    with plain_sqlite(path) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type != 'view' AND sql IS NOT NULL"
        ).fetchall()
    connection.close()
    return {name: sorted(re.findall(r"[^\s(),]+", sql)) for name, sql in rows}


def test_a_file_that_the_old_orch_wrote_is_upgraded_whole(written_by_the_old_orch):
    path = written_by_the_old_orch
    with Database.open(None, state_dir=path.parent) as database:
        assert any(f"from schema 7 to {SCHEMA_VERSION}" in notice for notice in database.notices)
        runs = list_runs(database)
        assert [run.started_at.month for run in runs] == [11, 9]
        for run in runs:
            attempts = load_run(database, run.id).attempts
            assert [(one.test_id.path, one.outcome.value) for one in attempts] == [
                ("test/a.py", "passed"),
                ("test/b.py", "failed"),
            ]
            assert all(one.violations and len(one.cases) == 2 and one.samples_count for one in attempts)
        assert database.sum_up() == 2
        assert {(row.test_id.path, row.count) for row in usage_report(database)} == {
            ("test/a.py", 2),
            ("test/b.py", 2),
        }


def test_the_first_revision_makes_the_tables_of_the_old_orch(written_by_the_old_orch, tmp_path):
    made = tmp_path / "made.db"
    make_old(f"sqlite:///{made}")
    assert tables_and_indexes(made) == tables_and_indexes(written_by_the_old_orch)


def test_a_schema_from_before_the_first_revision_is_refused_unchanged(written_by_the_old_orch):
    path = written_by_the_old_orch
    with plain_sqlite(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0006'")
        connection.execute("PRAGMA user_version = 6")
    connection.close()
    content = path.read_bytes()
    for reading in (False, True):
        with pytest.raises(UnusableDatabaseError, match="schema 6; this orch upgrades 7 and later"):
            Database.open(None, state_dir=path.parent, reading=reading)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == {path.name: content}


def test_what_was_charged_in_all_becomes_what_the_test_needed(empty_url, tmp_path):
    """CASES B1: memory peaks of older databases include the memory that was charged before the test."""
    mib = 1 << 20
    engine = make_engine(parse_url(empty_url))
    run = make_run(started_at=days_ago(12))
    peaks = {
        "plain.py": (30, 2, Launch.PROCESS),
        "forked.py": (70, 50, Launch.FORKED),
        "none.py": (None, None, Launch.PROCESS),
    }
    with engine.connect().execution_options(**WRITE) as connection, connection.begin():
        migrate.run_alembic(connection, "0008")
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA user_version = 8")
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        write_before_schema_9(connection, bundles.begin_bundle(run, [], None))
        for name, (peak, floor, launch) in peaks.items():
            usage = Usage(memory_peak_bytes=peak and peak * mib, memory_floor_bytes=floor and floor * mib)
            result = make_result(run, name, started_at=days_ago(12), usage=usage, slot=SlotUse(launch=launch))
            write_before_schema_9(connection, bundles.result_bundle(run.id, run.project_id, result))
        daily.sum_up_day(connection, days_ago(12).date())
        connection.exec_driver_sql("UPDATE runs SET status = 'finished'")
    engine.dispose()
    with Database.open(empty_url, state_dir=tmp_path) as database:
        found = {one.test_id.path: one.usage for one in load_run(database, run.id).attempts}
        peaks_found = {path: (u.memory_peak_bytes, u.memory_charged_peak_bytes) for path, u in found.items()}
        assert peaks_found == {
            "plain.py": (28 * mib, 30 * mib),
            "forked.py": (20 * mib, 70 * mib),
            "none.py": (None, None),
        }
        assert [path for path, usage in found.items() if usage.memory_peak_is_upper_bound] == ["forked.py"]
        assert database.sum_up() == 1
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.max(daily_usage.c.memory_bytes_max))).scalar() == 28 * mib


def test_an_empty_database_gets_its_schema_once_however_many_open_it(empty_url, tmp_path):
    troubles = []

    def open_it():
        try:
            Database.open(empty_url, state_dir=tmp_path).close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells
            troubles.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []


@pytest.mark.postgres
def test_a_newer_schema_on_a_server_is_refused_unchanged(postgres, tmp_path):
    url = postgres.create()
    Database.open(url, state_dir=tmp_path).close()
    postgres.execute("UPDATE alembic_version SET version_num = '0099'", url)
    with pytest.raises(DatabaseError, match=f"schema 99.*up to {SCHEMA_VERSION}"):
        Database.open(url, state_dir=tmp_path)


@pytest.mark.postgres
def test_a_reader_on_a_server_sees_one_state(postgres_url, tmp_path):
    run = make_run()
    with Database.open(postgres_url, state_dir=tmp_path) as database:
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0
            database.begin_run(run, [])
            assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0
        assert load_run(database, run.id)


def test_an_unreachable_server_is_reported_without_the_password(tmp_path):
    url = f"postgresql://me:s3cret@/name?host={tmp_path}"
    with pytest.raises(DatabaseError) as caught:
        Database.open(url, state_dir=tmp_path)
    assert "s3cret" not in str(caught.value)
    assert "server" in str(caught.value.remedy)


def test_a_missing_driver_is_reported_with_a_remedy(tmp_path):
    with pytest.raises(UsageError) as caught:
        Database.open("postgresql+pg8000://me@host/name", state_dir=tmp_path)
    assert "orch-runner[postgres]" in str(caught.value.remedy)

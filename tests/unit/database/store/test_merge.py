"""Databases can be merged in any order, any number of times, into a file or a server."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.database.queries.runs import load_run, load_samples
from orchestrator.database.queries.usage import usage_report
from orchestrator.database.schema.tables import metadata
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.database.store.merge import merge
from orchestrator.database.store.store import Database
from orchestrator.errors import DatabaseError, NothingFoundError, UsageError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.runs import RunStatus
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import (
    days_ago,
    finish,
    make_assignment,
    make_old,
    make_result,
    make_run,
    make_usage,
)
from tests.unit.database.store.test_store import Retention

MIB = 2**20


def record(database, *, days, tests, mib=50, **changes):
    run = make_run(started_at=days_ago(days))
    database.begin_run(run, [])
    for number in range(tests):
        result = make_result(
            run,
            assignment=make_assignment(run, f"test/{number}.py"),
            started_at=days_ago(days),
            usage=make_usage(memory_peak_bytes=(mib + number) * MIB, cpu_seconds=0.1 * days + number / 7),
            **changes,
        )
        database.record(run.id, result)
    finish(database, run)
    return run


def filled(folder, *runs, prune=None):
    with Database.open(None, state_dir=folder) as database:
        for run in runs:
            record(database, **run)
        if prune is not None:
            database.prune(prune)
    return folder / "resources.db"


def content(database):
    """Return all rows of all tables but `identity`."""
    with database.reading() as connection:
        return {
            table.name: sorted(repr(tuple(row)) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
            if table.name != "identity"
        }


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Return files that overlap: pruned, copied and then continued, unfinished, and with an old schema."""
    folder = tmp_path_factory.mktemp("shards")
    week = Retention(7, samples_full_days=7)
    pruned = filled(folder / "pruned", {"days": 20, "tests": 3}, {"days": 3, "tests": 2}, prune=week)
    whole = filled(folder / "whole", {"days": 20, "tests": 2, "mib": 80}, {"days": 12, "tests": 1})
    (folder / "copied").mkdir()
    copied = Path(shutil.copy(whole, folder / "copied"))
    filled(folder / "copied", {"days": 20, "tests": 4}, {"days": 0, "tests": 1})
    (folder / "thinned").mkdir()
    thinned = Path(shutil.copy(copied, folder / "thinned"))
    filled(folder / "thinned", prune=Retention(400, samples_days=15))
    make_old(f"sqlite:///{folder / 'old.db'}", "test/0.py")
    return [pruned, whole, copied, thinned, folder / "old.db"]


@pytest.fixture(scope="module")
def merged(shards, tmp_path_factory):
    """Return the rows after all files were merged at once."""
    with Database.open(None, state_dir=tmp_path_factory.mktemp("merged")) as database:
        merge(database, shards)
        return content(database)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_order_and_repetition_gives_the_same(shards, merged, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("targets")
    again = data.draw(st.lists(st.sampled_from(shards), max_size=2))
    order = data.draw(st.permutations(shards + again))
    with Database.open(None, state_dir=folder / "other") as database:
        for path in order:
            merge(database, [path])
        assert content(database) == merged
    shutil.rmtree(folder)


def test_all_that_was_in_the_files_is_there(shards, database):
    first = merge(database, shards)
    assert [(m.runs, m.attempts, m.version) for m in first] == [
        (1, 2, SCHEMA_VERSION),
        (2, 3, SCHEMA_VERSION),
        (2, 5, SCHEMA_VERSION),
        (0, 0, SCHEMA_VERSION),
        (1, 1, 7),
    ]
    assert [(m.runs, m.attempts) for m in merge(database, shards)] == [(0, 0)] * 5
    (row,) = [r for r in usage_report(database) if r.test_id.path == "test/0.py" and r.resource == "memory_peak"]
    # two of the pruned file, one of them by its day alone, two and two of the copies, one of the old file
    assert (row.count, row.maximum) == (7, 80 * MIB)


def test_a_merged_run_is_the_run(shards, database):
    merge(database, [shards[1]])
    with Database.open(None, state_dir=shards[1].parent) as source:
        for run in (row.id for row in load_run_ids(source)):
            there, here = load_run(source, run), load_run(database, run)
            assert here == there
            for attempt in here.attempts:
                assert load_samples(database, attempt.id) == load_samples(source, attempt.id)


def load_run_ids(database):
    from orchestrator.database.queries.runs import list_runs

    return list_runs(database)


def test_a_merged_database_can_be_merged_back(shards, tmp_path):
    with Database.open(None, state_dir=tmp_path / "a") as database:
        merge(database, shards[1:3])
    mine = Path(shutil.copy(shards[0], tmp_path / "resources.db"))
    with Database.open(None, state_dir=tmp_path) as database:
        own = content(database)["daily_usage"]
        merge(database, [tmp_path / "a" / "resources.db"])
        assert set(own) <= set(content(database)["daily_usage"])
    with Database.open(None, state_dir=tmp_path / "a") as database:
        merge(database, [mine])
        once = content(database)
        merge(database, [mine])
        assert content(database) == once


def test_an_unfinished_run_is_completed_by_a_later_merge(database, tmp_path):
    run = make_run()
    with Database.open(None, state_dir=tmp_path / "shard") as shard:
        shard.begin_run(run, [], owner="x")
        shard.record(run.id, make_result(run, "a.py"))
        merge(database, [tmp_path / "shard" / "resources.db"])  # while it is being written
        assert load_run(database, run.id).run.status is RunStatus.RUNNING
        shard.record(run.id, make_result(run, "b.py", Outcome.FAILED))
        finish(shard, run, exit_code=1)
    merge(database, [tmp_path / "shard" / "resources.db"])
    merged = load_run(database, run.id)
    assert (merged.run.status, merged.run.exit_code, len(merged.attempts)) == (RunStatus.FINISHED, 1, 2)


@pytest.mark.parametrize("kind", ["absent", "noise", "foreign", "newer", "cut", "damaged"])
def test_what_cannot_be_merged_is_refused_and_left_alone(shards, sqlite_database, tmp_path, kind):
    bad = tmp_path / "bad.db"
    match kind:
        case "noise":
            bad.write_bytes(b"x" * 5000)
        case "foreign":
            with plain_sqlite(bad) as connection:
                connection.execute("CREATE TABLE t (x)")
        case "newer" | "cut" | "damaged":
            whole = Path(shards[1]).read_bytes()
            bad.write_bytes(whole)
            if kind == "newer":
                with plain_sqlite(bad) as connection:
                    connection.execute("PRAGMA user_version = 99")
            elif kind == "cut":
                bad.write_bytes(whole[: len(whole) // 2])
            else:
                bad.write_bytes(whole[:8192] + b"\xff" * 40_000 + whole[48_192:])
    before = bad.read_bytes() if bad.exists() else None
    with pytest.raises(NothingFoundError if kind == "absent" else DatabaseError, match=r"bad\.db") as caught:
        merge(sqlite_database, [shards[1], bad])
    assert caught.value.remedy
    assert (bad.read_bytes() if bad.exists() else None) == before
    assert content(sqlite_database)["runs"] == [], "nothing of the good one either"


def test_a_database_is_not_merged_into_itself(sqlite_database):
    with pytest.raises(UsageError, match="merged into"):
        merge(sqlite_database, [sqlite_database.path])


def test_no_source_is_changed_and_nothing_is_left_beside_it(shards, database):
    def files():
        return {p: p.read_bytes() for shard in shards for p in shard.parent.iterdir() if p.is_file()}

    before = files()
    merge(database, shards)
    assert files() == before


def test_a_log_that_its_writer_left_behind_is_read_in_a_copy(database, tmp_path):
    with Database.open(None, state_dir=tmp_path / "shard") as shard:
        run = record(shard, days=2, tests=2)
        killed = tmp_path / "killed"
        killed.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{shard.path}{suffix}", killed)
    assert (killed / "resources.db-wal").stat().st_size > 0
    merge(database, [killed / "resources.db"])
    assert len(load_run(database, run.id).attempts) == 2
    assert sorted(p.name for p in killed.iterdir()) == ["resources.db", "resources.db-wal"]


def test_an_old_database_gets_a_name_that_stays(tmp_path):
    old = tmp_path / "old.db"
    make_old(f"sqlite:///{old}", "test/0.py")
    names = set()
    for number in (1, 2):
        copy = Path(shutil.copy(old, tmp_path / f"{number}.db"))
        Database.open(f"sqlite:///{copy}", state_dir=tmp_path / "state").close()
        connection = sqlite3.connect(copy)
        names |= set(connection.execute("SELECT id FROM identity"))
        connection.close()
    assert len(names) == 1

"""A direct read of the history equals that of the opened database, or is refused."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from orchestrator.database.rows.encoding import key_of_test
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.database.store.direct_read import read_directly
from orchestrator.database.store.history import read_history
from orchestrator.database.store.store import Database
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import TestId
from tests.unit.database.database_examples import days_ago, make_assignment, make_result, make_run, make_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from orchestrator.model.tests import History

KNOWN, BLIND, BAD, OLD, NEVER = (TestId(path=f"{name}.py") for name in ("known", "blind", "bad", "old", "never"))
ALL = (KNOWN, BLIND, BAD, OLD, NEVER)


def history(path: Path, tests: Iterable[TestId], *, project: str) -> Mapping[TestId, History] | None:
    none: Mapping[TestId, History] = {}
    keys = {test: [key_of_test(project, test)] for test in tests}
    return read_directly(path, lambda fetch: read_history(fetch, keys), absent=none)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a closed database with 24 attempts of one test, the newest failed, and one attempt of each other
    test.
    """
    run = make_run()
    with Database.open(None, state_dir=tmp_path) as database:
        database.begin_run(run, [])
        for number in range(24):
            database.record(
                run.id,
                make_result(
                    run,
                    assignment=make_assignment(run, KNOWN.path, repetition=number + 1),
                    outcome=Outcome.PASSED if number else Outcome.FAILED,
                    usage=make_usage(memory_peak_bytes=number * 1000, cpu_seconds=number / 2),
                    test_seconds=1.0 + number,
                    started_at=days_ago(number / 24),
                ),
            )
        for outcome in (Outcome.INFRA, Outcome.INTERRUPTED):
            assignment = make_assignment(run, KNOWN.path, repetition=90 + len(outcome))
            database.record(run.id, make_result(run, assignment=assignment, outcome=outcome))
        blind = make_usage(cpu_seconds=None, memory_peak_bytes=None)
        database.record(run.id, make_result(run, BLIND.path, usage=blind))
        database.record(run.id, make_result(run, BAD.path, Outcome.FAILED))
        database.record(run.id, make_result(run, OLD.path, started_at=days_ago(31)))
    return tmp_path / "resources.db"


def test_a_direct_read_equals_the_answer_of_the_database(file: Path) -> None:
    before = file.read_bytes()
    found = history(file, ALL, project="demo")
    assert found is not None
    assert set(found) == {KNOWN, BLIND}
    assert found[KNOWN].attempts == 20
    assert found[KNOWN].last_outcome is Outcome.FAILED
    assert history(file, ALL, project="another") == {}
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # no log, no lock
    assert file.read_bytes() == before
    with Database.open(None, state_dir=file.parent) as database:
        assert database.history(ALL, project="demo") == found


def test_without_a_database_nothing_is_read_directly(tmp_path: Path) -> None:
    assert history(tmp_path / "resources.db", ALL, project="demo") == {}
    (tmp_path / "resources.db-wal").write_bytes(b"left of one that was removed")
    assert history(tmp_path / "resources.db", ALL, project="demo") is None


def test_a_database_that_is_open_is_not_read_directly(file: Path) -> None:
    with Database.open(None, state_dir=file.parent) as database:
        run = make_run()
        database.begin_run(run, [])
        assert history(file, ALL, project="demo") is None  # its log may hold more
    assert history(file, ALL, project="demo") is not None


def test_another_schema_a_foreign_file_and_a_damaged_one_are_not_read_directly(file: Path) -> None:
    whole = file.read_bytes()
    with sqlite3.connect(file) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    connection.close()
    assert history(file, ALL, project="demo") is None
    file.write_bytes(whole[: len(whole) // 2])
    assert history(file, ALL, project="demo") is None
    file.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    assert history(file, ALL, project="demo") is None
    file.write_bytes(b"no database at all" * 100)
    assert history(file, ALL, project="demo") is None
    file.unlink()
    sqlite3.connect(file).execute("CREATE TABLE other (a)").connection.close()
    assert history(file, ALL, project="demo") is None

"""The views of the database, read with the sqlite3 program and in PostgreSQL."""

import csv
import io
import shutil
import subprocess

import pytest

from orchestrator.database.schema.views import VIEWS
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import TestResult, Verb
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import (
    days_ago,
    finish,
    make_assignment,
    make_attempt,
    make_result,
    make_run,
    make_usage,
)

MIB = 2**20
TESTS = (("big.py", 500, 0.1, 0.5), ("busy.py", 20, 3.0, 2.0), ("slow.py", 10, 0.2, 9.0))
"""Tests as (path, memory in MiB, CPU seconds, duration in seconds)."""


@pytest.fixture
def filled(database):
    """Record two runs of a big, a busy, a slow and a flaky test, and of two that fail in one run only."""
    first, second = (make_run(started_at=days_ago(days)) for days in (3, 2))
    for run, days in ((first, 3), (second, 2)):
        database.begin_run(run, [])
        for path, mib, cpu, seconds in TESTS:
            result = make_result(
                run,
                assignment=make_assignment(run, path, case="one" if path == "slow.py" else None),
                usage=make_usage(memory_peak_bytes=mib * MIB, cpu_seconds=cpu),
                test_seconds=seconds,
                started_at=days_ago(days),
            )
            database.record(run.id, result)
    attempts = (
        make_attempt(make_assignment(first, "shaky.py"), Outcome.FAILED, started_at=days_ago(3)),
        make_attempt(make_assignment(first, "shaky.py", attempt=2), started_at=days_ago(3)),
    )
    database.record(first.id, TestResult(attempts=attempts, outcome=Outcome.PASSED, verb=Verb.FLAKY, flaky=True))
    for run, days, mended, broken in (
        (first, 3, Outcome.FAILED, Outcome.PASSED),
        (second, 2, Outcome.PASSED, Outcome.OOM),
    ):
        database.record(run.id, make_result(run, "mended.py", mended, started_at=days_ago(days)))
        database.record(run.id, make_result(run, "broken.py", broken, started_at=days_ago(days)))
        finish(database, run, exit_code=1)
    return database, first, second


def read(database, view):
    """Return the rows of a view as dicts of column -> value."""
    with database.reading() as connection:
        return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {view}").mappings()]


def test_the_worst_come_first(filled):
    database, *_ = filled
    worst = read(database, "worst_memory")[0]
    assert (worst["project"], worst["test"], worst["attempts"]) == ("demo", "big.py", 2)
    assert (worst["memory_peak_bytes"], float(worst["memory_peak_mib"])) == (500 * MIB, 500.0)
    assert float(worst["memory_ratio"]) == pytest.approx(500 / 512)
    busiest = read(database, "worst_cpu")[0]
    assert (busiest["test"], busiest["cpu_seconds"]) == ("busy.py", 3.0)
    slowest = read(database, "slowest_tests")[0]
    assert (slowest["test"], slowest["duration_seconds"], slowest["attempts"]) == ("slow.py::one", 9.0, 2)


def test_flaky_and_failing_tests(filled):
    database, _, second = filled
    (flaky,) = read(database, "flaky_tests")
    assert (flaky["test"], flaky["results"], flaky["flaky"]) == ("shaky.py", 1, 1)
    assert float(flaky["flaky_percent"]) == 100
    (failing,) = read(database, "failing_tests")
    assert (failing["test"], failing["outcome"], failing["run"]) == ("broken.py", "oom", second.short_id)


def test_runs_and_days(filled):
    database, first, second = filled
    newest, oldest = read(database, "runs_overview")
    assert (newest["run"], oldest["run"]) == (second.short_id, first.short_id)
    counts = [oldest[name] for name in ("tests", "passed", "failed", "flaky", "violations")]
    assert counts == [6, 5, 1, 1, 6]
    assert (newest["oom"], newest["exit_code"], newest["host_cpus"]) == (1, 1, 2.0)
    days = read(database, "daily_totals")
    assert [(d["day"], d["tests"], d["attempts"], d["failed_attempts"]) for d in days] == [
        (days_ago(2).date().isoformat(), 5, 5, 1),
        (days_ago(3).date().isoformat(), 6, 7, 2),
    ]
    assert days[0]["memory_peak_bytes"] == 500 * MIB


def test_violations_newest_first(filled):
    database, _, second = filled
    violations = read(database, "recent_violations")
    assert len(violations) == 11
    assert {v["run"] for v in violations[:5]} == {second.short_id}
    worst = violations[0]
    assert (worst["kind"], worst["severity"], worst["unit"]) == ("memory-near", "warning", "bytes")
    assert worst["allowed"] == 512e6


def test_columns_say_their_unit(filled):
    database, *_ = filled
    units = ("_bytes", "_seconds", "_ratio", "_percent", "_mib", "_at", "_seconds_mean", "_cpus")
    for view in VIEWS:
        for column in read(database, view.name)[0]:
            if any(word in column for word in ("memory", "cpu", "duration", "peak", "time_")):
                assert column.endswith(units), (view.name, column)


def test_the_sqlite3_module_and_program_show_them(sqlite_database):
    run = make_run()
    sqlite_database.begin_run(run, [])
    sqlite_database.record(run.id, make_result(run, "a.py"))
    finish(sqlite_database, run)
    for view in VIEWS:
        query = f"SELECT * FROM {view.name} LIMIT 3"
        with plain_sqlite(sqlite_database.path) as connection:
            cursor = connection.execute(query)
            columns = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
        assert len(rows) == (0 if view.name in {"flaky_tests", "failing_tests", "daily_totals"} else 1), view.name
        if shutil.which("sqlite3") and rows:  # the module above is the same library
            command = ["sqlite3", "-readonly", "-header", "-csv", sqlite_database.path, query]
            shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
            assert next(csv.reader(io.StringIO(shown))) == columns

"""Daily sums: their content, when they are made, and that reports are equal by day and by attempt."""

from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.database.queries.offenders import offenders
from orchestrator.database.queries.runs import load_run, load_samples
from orchestrator.database.queries.sizes import database_size
from orchestrator.database.queries.usage import usage_report
from orchestrator.database.rollups import daily, window_parts
from orchestrator.database.schema.tables import daily_usage, stale_days
from orchestrator.database.store.maintenance import thin_series
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.results import TestResult, Verb
from orchestrator.model.usage import Sample
from tests.unit.database.database_examples import (
    days_ago,
    finish,
    make_assignment,
    make_attempt,
    make_result,
    make_run,
    make_usage,
)
from tests.unit.database.store.test_store import Retention

MIB = 2**20


def record(database, days, *figures, path="a.py", outcome=Outcome.PASSED, samples=(), end=True):
    """Record a run of that age in days with one attempt for each pair of MiB and seconds."""
    run = make_run(started_at=days_ago(days))
    database.begin_run(run, [], owner="alive")
    for number, (mib, seconds) in enumerate(figures, 1):
        result = make_result(
            run,
            outcome=outcome,
            assignment=make_assignment(run, path, repetition=number),
            started_at=days_ago(days),
            test_seconds=seconds,
            usage=make_usage(memory_peak_bytes=None if mib is None else mib * MIB),
            samples=samples,
        )
        database.record(run.id, result)
    if end:
        finish(database, run)
    return run


def days_of(database):
    with database.reading() as connection:
        return connection.execute(sa.select(daily_usage).order_by(daily_usage.c.day)).mappings().all()


def waiting(database):
    with database.reading() as connection:
        return set(connection.execute(sa.select(stale_days.c.day)).scalars())


# ---------------------------------------------------------------- what is summed up


def test_a_day_holds_what_its_attempts_had(database):
    record(database, 3, (10, 1.0), (30, 2.0), (None, 4.0))
    record(database, 3, (99, 9.0), outcome=Outcome.INFRA)
    record(database, 3, (20, 1.5), outcome=Outcome.FAILED)
    (row,) = days_of(database)
    assert (row["day"], row["origin"]) == (days_ago(3).date().isoformat(), "")
    assert (row["attempts"], row["passed"], row["failed"], row["infra"], row["violations"]) == (5, 3, 1, 1, 5)
    assert [row[f"memory_bytes_{k}"] for k in ("count", "sum", "min", "max")] == [3, 60 * MIB, 10 * MIB, 30 * MIB]
    assert [row[f"test_seconds_{k}"] for k in ("count", "sum", "min", "max")] == [4, 8.5, 1.0, 4.0]
    assert [row[f"write_bytes_{k}"] for k in ("count", "sum", "min", "max", "sketch")] == [
        0,
        None,
        None,
        None,
        None,
    ]


def test_flaky_results_are_counted(database):
    run = make_run(started_at=days_ago(2))
    database.begin_run(run, [])
    attempts = (
        make_attempt(make_assignment(run), Outcome.FAILED, started_at=days_ago(2)),
        make_attempt(make_assignment(run, attempt=2), started_at=days_ago(2)),
    )
    database.record(run.id, TestResult(attempts=attempts, outcome=Outcome.PASSED, verb=Verb.FLAKY, flaky=True))
    finish(database, run)
    (row,) = days_of(database)
    assert (row["attempts"], row["flaky"], row["violations"]) == (2, 1, 1), "violations of the final one"


def test_today_waits_until_it_is_over(database):
    record(database, 0, (10, 1.0))
    assert days_of(database) == []
    assert waiting(database) == {daily.today().isoformat()}
    assert database.sum_up() == 0


def test_what_comes_late_is_added(database):
    record(database, 3, (10, 1.0))
    record(database, 3, (20, 1.0))
    (row,) = days_of(database)
    assert (row["attempts"], row["memory_bytes_sum"]) == (2, 30 * MIB)


def test_a_dead_run_is_summed_up_too(open_database):
    with open_database() as database:
        record(database, 3, (10, 1.0), end=False)
    with open_database(owner_alive=lambda _: False) as database:
        assert database.sum_up() == 1
        assert [row["attempts"] for row in days_of(database)] == [1]


def test_a_run_ends_quickly_however_many_days_wait(database):
    with database.writing() as engine, engine.begin() as connection:
        daily.mark_stale(connection, (days_ago(n).date() for n in range(2, 40)))
    record(database, 1, (10, 1.0))
    assert len(waiting(database)) == 38 + 1 - 7
    assert database.sum_up() == 32


# ---------------------------------------------------------------- what outlives the attempts


def test_sums_outlive_attempts_and_end_with_their_own_retention(database):
    old = record(database, 200, (10, 1.0), (30, 3.0))
    record(database, 5, (20, 2.0))
    assert database.prune(Retention(30)) == 1
    assert database.prune(Retention(30)) == 0
    (row,) = usage_report(database, resources=(Resource.MEMORY,))
    assert (row.count, row.maximum, row.mean) == (3, 30 * MIB, 20 * MIB)
    (worst,) = offenders(database)
    assert worst.value == 20 * MIB, "an offender is an attempt that can be shown"
    assert old.id not in {attempt.run_id for attempt in load_run(database, "latest").attempts}
    database.prune(Retention(30, rollups_days=100))
    assert [row["day"] for row in days_of(database)] == [days_ago(5).date().isoformat()]


def test_late_attempts_of_a_pruned_day_do_not_replace_its_sums(database):
    record(database, 200, (10, 1.0), (30, 3.0))
    database.prune(Retention(30))
    record(database, 200, (500, 9.0))
    (row,) = days_of(database)
    assert (row["attempts"], row["memory_bytes_max"]) == (2, 30 * MIB)


def test_a_short_window_reaches_beyond_short_retention(database):
    for days in (20, 12, 5, 2):
        record(database, days, (days, 1.0))
    database.prune(Retention(7))
    row = next(r for r in usage_report(database, since=days_ago(25)) if r.resource == "memory_peak")
    assert (row.count, row.maximum) == (4, 20 * MIB)


# ---------------------------------------------------------------- reports


def test_a_long_window_says_by_day_what_it_says_by_attempt(database, monkeypatch):
    for days in range(0, 60, 2):
        record(
            database, days + 0.3, *[((days * 7 + n) % 50 + 1, 0.1 * ((days * 3 + n) % 17 + 1)) for n in range(3)]
        )
    resources = tuple(Resource)
    for since, until in (
        (None, None),
        (days_ago(50), None),
        (days_ago(58), days_ago(1.5)),
        (days_ago(45), days_ago(2)),
    ):
        by_day = usage_report(database, since=since, until=until, resources=resources)
        with monkeypatch.context() as patch:
            patch.setattr(window_parts, "_days_read_by_day", lambda *_: None)
            exact = usage_report(database, since=since, until=until, resources=resources)
        assert len(by_day) == len(exact) == 8
        for one, other in zip(by_day, exact, strict=True):
            assert (one.count, one.maximum, one.before_count) == (other.count, other.maximum, other.before_count)
            assert one.mean == pytest.approx(other.mean, rel=1e-12)
            for name in ("p50", "p95", "p99", "before_p50"):
                near = getattr(other, name)
                assert getattr(one, name) == (near if near is None else pytest.approx(near, rel=0.0006)), name
            assert len(one.history) == len(other.history) == 12
            assert max(one.history) == max(other.history)


def test_days_that_wait_are_read_by_attempt(database):
    for days in (1, 5, 10, 11, 20, 30, 49):
        record(database, days, (days, 1.0))
    with database.writing() as engine, engine.begin() as connection:
        daily.mark_stale(connection, [days_ago(10).date(), days_ago(11).date(), days_ago(30).date()])
        connection.execute(daily_usage.delete().where(daily_usage.c.day.in_(waiting(database))))
        parts = window_parts.split_window(connection, None, None)
        assert [part.by_day for part in parts] == [False, True, False, True, False, True, False]
    row = next(r for r in usage_report(database) if r.resource == "memory_peak")
    assert (row.count, row.maximum) == (7, 49 * MIB)


def test_days_of_a_run_that_still_runs_are_read_by_attempt(database):
    for days in range(1, 50, 5):
        record(database, days, (days, 1.0))
    record(database, 20, (900, 1.0), end=False)
    row = next(r for r in usage_report(database) if r.resource == "memory_peak")
    assert (row.count, row.maximum) == (11, 900 * MIB)


@given(st.integers(0, 100), st.integers(0, 100), st.sets(st.integers(0, 99), max_size=20))
def test_parts_have_no_gap_and_no_overlap(start, length, unready):
    first = daily.today() - timedelta(days=200 - start)
    days = {first + timedelta(days=n) for n in unready}
    parts = window_parts._runs_of_days(first, first + timedelta(days=length + 1), days)
    assert parts[0][0] == first
    assert parts[-1][1] == first + timedelta(days=length + 1)
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    for begin, end in parts:
        inside = {begin + timedelta(days=n) for n in range((end - begin).days)}
        assert inside <= days or not inside & days


# ---------------------------------------------------------------- thinned series


@given(st.lists(st.integers(0, 10**9) | st.none(), max_size=300), st.integers(3, 40))
def test_a_thinned_series_keeps_its_ends_and_its_peak(memory, points):
    series = tuple(Sample(at_seconds=n / 10, memory_bytes=value) for n, value in enumerate(memory))
    thin = thin_series(series, points)
    assert len(thin) <= max(points, 0)
    assert list(thin) == sorted(thin, key=lambda s: s.at_seconds)
    assert set(thin) <= set(series)
    if series:
        assert (thin[0], thin[-1]) == (series[0], series[-1])
        assert max(s.memory_bytes or 0 for s in thin) == max(s.memory_bytes or 0 for s in series)


def test_time_series_are_thinned_then_deleted_with_age(database):
    series = tuple(Sample(at_seconds=n / 10, memory_bytes=n % 77 * MIB) for n in range(300))
    runs = {days: record(database, days, (10, 1.0), samples=series) for days in (1, 10, 40)}
    retention = Retention(400, samples_days=30, samples_full_days=7)
    database.prune(retention, thin_at_most=0)
    assert [len(load_samples(database, load_run(database, r.id).attempts[0].id)) for r in runs.values()] == [
        300
    ] * 3
    for _ in (1, 2):
        database.prune(retention)
        attempts = {days: load_run(database, run.id).attempts[0] for days, run in runs.items()}
        assert [attempts[days].samples_count for days in runs] == [300, 30, 0]
        thin = load_samples(database, attempts[10].id)
        assert (len(thin), max(s.memory_bytes for s in thin)) == (30, 76 * MIB)


# ---------------------------------------------------------------- size


def test_the_size_of_a_database_is_reported(database):
    record(database, 3, (10, 1.0), (20, 2.0))
    size = database_size(database)
    rows = {table.name: table.rows for table in size.tables}
    assert (rows["attempts"], rows["runs"], rows["daily_usage"]) == (2, 1, 1)
    assert size.first_day == days_ago(3).date().isoformat()
    assert size.oldest_run_at == size.newest_run_at == days_ago(3)
    assert all(table.bytes for table in size.tables)
    assert size.bytes >= sum(table.bytes or 0 for table in size.tables)


def test_vacuum_gives_room_back(sqlite_database):
    database = sqlite_database
    record(database, 100, *[(10, 1.0)] * 150)
    before = database_size(database).bytes
    with database.writing() as engine, engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM runs")
    assert database_size(database).free_bytes
    database.vacuum()
    after = database_size(database)
    assert after.free_bytes == 0
    assert after.bytes < before * 0.8
    assert database.path.stat().st_size == after.bytes


def test_vacuum_and_prune_work_on_a_server_too(database):
    record(database, 100, (10, 1.0))
    assert database.prune(Retention(30)) == 1
    database.vacuum()
    assert [row["attempts"] for row in days_of(database)] == [1]

"""Usage of tests over windows: statistics, trends, histories, any resource."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.database.queries.offenders import offenders
from orchestrator.database.queries.usage import top_usage, usage_report
from orchestrator.database.queries.violations import load_violation_groups, load_violations
from orchestrator.database.rollups.statistics import distribution
from orchestrator.errors import DatabaseError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.results import TestResult, Verb
from orchestrator.model.violations import Severity, ViolationKind
from orchestrator.reports.tables import violations as summed
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import (
    LIMITS,
    VIOLATION,
    days_ago,
    make_assignment,
    make_attempt,
    make_result,
    make_run,
    make_usage,
    record_usage,
)

MIB = 2**20


@pytest.fixture
def run(database):
    found = make_run(started_at=days_ago(30))
    database.begin_run(found, [])
    return found


def store(database, run, name, number, *, days=0.0, seconds=1.0, outcome=Outcome.PASSED, **usage):
    assignment = make_assignment(run, name, repetition=number)
    database.record(
        run.id,
        make_result(
            run,
            outcome=outcome,
            assignment=assignment,
            started_at=days_ago(days),
            test_seconds=seconds,
            usage=make_usage(**usage),
        ),
    )


def one(database, resource=Resource.MEMORY, **window):
    (row,) = usage_report(database, resources=(resource,), **window)
    return row


def test_a_trend_compares_medians_with_the_window_before(database, run):
    for number, (days, mib) in enumerate([(1, 30), (2, 30), (3, 90), (8, 20), (9, 20), (13, 10), (15, 99)], 1):
        store(database, run, "a.py", number, days=days, memory_peak_bytes=mib * MIB)
    row = one(database, since=days_ago(7))
    assert (row.count, row.p50, row.maximum) == (3, 30 * MIB, 90 * MIB)
    assert (row.before_count, row.before_p50, row.trend) == (3, 20 * MIB, 0.5)
    assert row.history == (90 * MIB, 30 * MIB, 30 * MIB)


def test_a_window_with_an_end_is_compared_with_one_as_long(database, run):
    for number, days in enumerate([1, 5, 6, 7, 9, 10, 11, 13], 1):
        store(database, run, "a.py", number, days=days, memory_peak_bytes=MIB)
    row = one(database, since=days_ago(8), until=days_ago(4))
    assert (row.count, row.before_count) == (3, 3)


def test_there_is_no_trend_of_all_time_or_from_two_attempts(database, run):
    for number, days in enumerate([1, 2, 3, 8, 9], 1):
        store(database, run, "a.py", number, days=days, memory_peak_bytes=MIB)
    assert one(database).before_count == 0
    assert one(database).trend is None
    assert one(database, since=days_ago(7)).before_count == 2
    assert one(database, since=days_ago(7)).trend is None


def test_infrastructure_failures_say_nothing_about_a_test(database, run):
    store(database, run, "a.py", 1, memory_peak_bytes=MIB)
    store(database, run, "a.py", 2, memory_peak_bytes=900 * MIB, outcome=Outcome.INFRA)
    assert one(database).maximum == MIB


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        (Resource.MEMORY, 64 * MIB),
        (Resource.CPU, 0.5),
        (Resource.DURATION, 2.5),
        (Resource.MEMORY_RATIO, 64 * MIB / LIMITS.memory_bytes),
        (Resource.TIME_RATIO, 0.25),
        (Resource.PIDS, 7),
        (Resource.THROTTLED, 0.125),
        (Resource.ANON, 50 * MIB),
        (Resource.SHMEM, 3 * MIB),
        (Resource.READ, 111),
        (Resource.WRITE, 222),
        (Resource.OUTPUT, 2003),
    ],
)
def test_each_resource_is_reported_and_ranked(database, run, resource, value):
    figures = {"memory_peak_bytes": 64 * MIB, "cpu_seconds": 0.5, "pids_peak": 7, "throttled_seconds": 0.125}
    figures |= {"shmem_peak_bytes": 3 * MIB, "read_bytes": 111, "write_bytes": 222}
    store(database, run, "a.py", 1, seconds=2.5, **figures)
    row = one(database, resource)
    assert (row.maximum, row.unit, row.resource) == (value, resource.unit, resource.key)
    (worst,) = offenders(database, by=resource)
    assert (worst.value, worst.by) == (value, resource)
    assert worst.usage == row


def test_every_resource_has_a_test_above():
    parameters = test_each_resource_is_reported_and_ranked.pytestmark[0].args[1]
    assert {resource for resource, _ in parameters} == set(Resource)


def test_a_test_that_used_nothing_of_a_resource_is_no_offender(database, run):
    store(database, run, "idle.py", 1, throttled_seconds=0.0)
    store(database, run, "held.py", 1, throttled_seconds=0.2)
    store(database, run, "blind.py", 1, throttled_seconds=None)
    assert [row.test_id.path for row in offenders(database, by="throttled")] == ["held.py"]


def test_a_figure_that_was_never_measured_has_no_row(database, run):
    store(database, run, "a.py", 1, swap_peak_bytes=None, read_bytes=None)
    assert usage_report(database, resources=(Resource.READ,)) == ()


@pytest.fixture
def uneven(database, run):
    """Record tests with one figure, with another and with none; two have the same name in two projects."""
    other = make_run(project="other", started_at=days_ago(30))
    database.begin_run(other, [])
    for place, name in enumerate(["b.py", "a.py", "d.py", "c.py"]):
        for number in range(1, 5 + place):
            figures = {"memory_peak_bytes": None if name == "d.py" else (9 - place * number) ** 2 * MIB}
            store(database, run, name, number, days=number * 2.5, **figures, read_bytes=None)
    store(database, run, "none.py", 1, outcome=Outcome.INFRA)
    store(database, other, "c.py", 1, days=1, memory_peak_bytes=500 * MIB, read_bytes=4)
    return database


@pytest.mark.parametrize("sort", ["test", "runs", "maximum", "mean", "p50", "p95", "p99", "trend"])
@pytest.mark.parametrize("resources", [(Resource.MEMORY,), (Resource.MEMORY, Resource.CPU), (Resource.READ,)])
@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_the_first_rows_are_those_of_all_rows_in_order(uneven, sort, resources, limit):
    window = {"since": days_ago(8), "resources": resources}
    by_test = {}
    for row in usage_report(uneven, **window):
        by_test.setdefault(row.test_id, []).append(row)

    def rank(test):
        first = next((row for row in by_test[test] if row.resource == resources[0].key), None)
        figure = None if first is None else getattr(first, "count" if sort == "runs" else sort)
        return float("inf") if figure is None else -figure

    order = sorted(by_test, key=str) if sort == "test" else sorted(sorted(by_test, key=str), key=rank)
    expected = [row for test in order[:limit] for row in by_test[test]]
    shown, more = top_usage(uneven, sort=sort, limit=limit, **window)
    assert (list(shown), more) == (expected, max(len(order) - limit, 0))
    assert len(order) == {(Resource.READ,): 1, (Resource.MEMORY,): 3}.get(resources, 4)


def test_offenders_end_where_the_window_does(database, run):
    store(database, run, "a.py", 1, days=1, memory_peak_bytes=900 * MIB)
    store(database, run, "a.py", 2, days=5, memory_peak_bytes=5 * MIB)
    (row,) = offenders(database, since=days_ago(7), until=days_ago(3))
    assert (row.value, row.attempts, row.usage.maximum) == (5 * MIB, 1, 5 * MIB)


def test_a_damaged_file_is_an_error_for_the_user(sqlite_database):
    database, run = sqlite_database, make_run()
    database.begin_run(run, [])
    for number in range(1, 200):
        store(database, run, f"{number}.py", 1)
    with plain_sqlite(database.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'ix_attempts_figures'")
    with type(database).open(None, state_dir=database.path.parent) as damaged, pytest.raises(DatabaseError):
        usage_report(damaged)


# ---------------------------------------------------------------- broken budgets


def test_violations_are_those_of_deciding_attempts(database, run):
    grave = replace(VIOLATION, severity=Severity.ERROR, message="the last word")
    first = make_attempt(make_assignment(run, attempt=1), Outcome.FAILED, started_at=days_ago(2))
    last = make_attempt(
        make_assignment(run, attempt=2), started_at=days_ago(2), violations=(grave, VIOLATION), message=""
    )
    database.record(
        run.id, TestResult(attempts=(first, last), outcome=Outcome.PASSED, verb=Verb.FLAKY, flaky=True)
    )
    found = load_violations(database)
    assert [b.violation for b in found] == [grave, VIOLATION]
    assert {(b.run_id, b.attempt_id, b.outcome) for b in found} == {(run.id, last.id, Outcome.PASSED)}
    assert load_violations(database, run=run.id[:8]) == load_violations(database, since=days_ago(3)) == found
    assert load_violations(database, since=days_ago(1)) == load_violations(database, until=days_ago(3)) == ()


def test_violations_of_another_run_stay_out(database, run):
    other = make_run()
    database.begin_run(other, [])
    store(database, run, "a.py", 1)
    store(database, other, "b.py", 1)
    assert [b.test_id.path for b in load_violations(database, run="latest")] == ["b.py"]


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_loaded_groups_equal_the_groups_of_loaded_violations(database, run, limit):
    other = make_run(project="other")
    database.begin_run(other, [])
    chance = random.Random(3)
    for number in range(60):
        found = tuple(
            replace(
                VIOLATION,
                kind=chance.choice([ViolationKind.MEMORY_NEAR, ViolationKind.OUTPUT_FLOOD]),
                severity=chance.choice([*Severity]),
                measured=float(chance.randrange(3)),
            )
            for _ in range(chance.randrange(4))
        )
        of = chance.choice([run, other])
        path = chance.choice(["a.py", "b.py", "c.py"])
        assignment = make_assignment(of, path, repetition=number + 1)
        at = days_ago(chance.choice([1, 2, 5, 60]))
        database.record(of.id, make_result(of, assignment=assignment, started_at=at, violations=found))
    for window in ({}, {"since": days_ago(3)}, {"since": days_ago(70), "until": days_ago(2)}):
        expected = summed.violation_groups(load_violations(database, **window))
        shown, more = load_violation_groups(database, limit=limit, **window)
        assert list(shown) == expected[:limit]
        assert len(shown) + more == len(expected) > 3


# ---------------------------------------------------------------- statistics


@given(st.lists(st.floats(0, 1e15), min_size=1))
def test_a_spread_is_of_values_that_occurred(values):
    found = distribution(values)
    assert {found.p50, found.p95, found.p99, found.maximum} <= set(values)
    assert found.p50 <= found.p95 <= found.p99 <= found.maximum == max(values)
    assert found.mean == pytest.approx(sum(values) / len(values))


def test_a_peak_of_tasks_that_is_only_a_bound_ranks_nobody(database, run):
    """CASES B3: starting the container took nine tasks, whatever the test did."""
    store(database, run, "bound.py", 1, pids_peak=9, upper_bounds=("pids_peak",))
    store(database, run, "figure.py", 1, pids_peak=5)
    assert [(row.test_id.path, row.maximum) for row in usage_report(database, resources=(Resource.PIDS,))] == [
        ("figure.py", 5)
    ]
    assert [row.test_id.path for row in offenders(database, by="pids")] == ["figure.py"]


def test_usage_report_has_percentiles_per_test_and_resource(database, run):
    for number in range(1, 101):
        record_usage(database, run, "a.py", memory_mib=number, cpu=None, seconds=number / 100, repetition=number)
    record_usage(database, run, "a.py", memory_mib=900, age=40, repetition=101)
    report = {row.resource: row for row in usage_report(database, since=days_ago(30))}
    assert set(report) == {"memory_peak", "duration", "memory_ratio"}, "no row for a figure nobody measured"
    memory = report["memory_peak"]
    assert (memory.count, memory.maximum, memory.mean) == (100, 100 * MIB, 50.5 * MIB)
    assert (memory.p50, memory.p95, memory.p99) == (50 * MIB, 95 * MIB, 99 * MIB)
    (old,) = [r for r in usage_report(database, until=days_ago(30)) if r.resource == "memory_peak"]
    assert (old.count, old.maximum) == (1, 900 * MIB)

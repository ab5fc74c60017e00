import json

import pytest

from orchestrator.database.queries.export import export_run
from orchestrator.database.queries.offenders import offenders
from orchestrator.database.queries.run_diff import diff_runs
from orchestrator.database.queries.runs import failed_tests, list_runs, load_run
from orchestrator.database.queries.usage import usage_report
from orchestrator.errors import NothingFoundError, UsageError
from orchestrator.model.evidence import Launch, SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.runs import RunStatus
from orchestrator.model.tests import TestId
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import (
    days_ago,
    finish,
    make_assignment,
    make_result,
    make_run,
    make_usage,
)

MIB = 2**20


def record_usage(
    database, run, path, *, memory=1, cpu=0.1, seconds=0.1, age=0.0, outcome=Outcome.PASSED, repetition=1
):
    assignment = make_assignment(run, path, repetition=repetition)
    usage = make_usage(memory_peak_bytes=None if memory is None else memory * MIB, cpu_seconds=cpu)
    database.record(
        run.id,
        make_result(
            run,
            assignment=assignment,
            outcome=outcome,
            usage=usage,
            test_seconds=seconds,
            started_at=days_ago(age),
        ),
    )


@pytest.fixture
def run(database):
    run = make_run()
    database.begin_run(run, [])
    return run


def paths(rows):
    return [row.test_id.path for row in rows]


def test_offenders_are_ranked_by_each_figure(database, run):
    record_usage(database, run, "memory.py", memory=500, cpu=1, seconds=1)
    record_usage(database, run, "cpu.py", memory=10, cpu=9, seconds=5)
    record_usage(database, run, "slow.py", memory=20, cpu=2, seconds=9)
    record_usage(database, run, "blind.py", memory=None, cpu=None, seconds=0.1)
    assert paths(offenders(database, by="memory")) == ["memory.py", "slow.py", "cpu.py"]
    assert paths(offenders(database, by="cpu", limit=2)) == ["cpu.py", "slow.py"]
    assert paths(offenders(database, by="duration")) == ["slow.py", "cpu.py", "memory.py", "blind.py"]
    (worst,) = offenders(database, by="memory-ratio", limit=1)
    assert worst.value == worst.memory_ratio == pytest.approx(500 / 512)
    assert (worst.rank, worst.memory_peak_bytes, worst.limit_memory_bytes) == (1, 500 * MIB, 512 * MIB)


def test_a_test_offends_once_by_its_worst_attempt_within_the_window(database, run):
    record_usage(database, run, "a.py", memory=300, age=10)
    record_usage(database, run, "a.py", memory=100, age=1, repetition=2)
    record_usage(database, run, "a.py", memory=50, age=0, repetition=3)
    record_usage(database, run, "a.py", memory=400, age=0, repetition=4, outcome=Outcome.INFRA)
    (ever,) = offenders(database)
    assert (ever.memory_peak_bytes, ever.attempts) == (300 * MIB, 3)
    (lately,) = offenders(database, since=days_ago(7))
    assert (lately.memory_peak_bytes, lately.attempts, lately.started_at) == (100 * MIB, 2, days_ago(1))
    assert offenders(database, since=days_ago(-1)) == ()


def test_usage_report_has_percentiles_per_test_and_resource(database, run):
    for number in range(1, 101):
        record_usage(database, run, "a.py", memory=number, cpu=None, seconds=number / 100, repetition=number)
    record_usage(database, run, "a.py", memory=900, age=40, repetition=101)
    report = {row.resource: row for row in usage_report(database, since=days_ago(30))}
    assert set(report) == {"memory_peak", "duration", "memory_ratio"}, "no row for a figure nobody measured"
    memory = report["memory_peak"]
    assert (memory.count, memory.maximum, memory.mean) == (100, 100 * MIB, 50.5 * MIB)
    assert (memory.p50, memory.p95, memory.p99) == (50 * MIB, 95 * MIB, 99 * MIB)
    (old,) = [r for r in usage_report(database, until=days_ago(30)) if r.resource == "memory_peak"]
    assert (old.count, old.maximum) == (1, 900 * MIB)


def test_runs_are_found_by_prefix_and_by_latest(database):
    first = make_run(id="aaaa1111-0000-4000-8000-000000000001", started_at=days_ago(2))
    second = make_run(id="aaaa2222-0000-4000-8000-000000000002", started_at=days_ago(1))
    for run in (second, first):
        database.begin_run(run, [])
    assert load_run(database, "latest").run.id == second.id
    assert load_run(database, "AAAA1").run.id == first.id
    assert [run.id for run in list_runs(database, 10)] == [second.id, first.id]
    assert [run.id for run in list_runs(database, 1)] == [second.id]
    with pytest.raises(UsageError, match="several runs"):
        load_run(database, "aaaa")
    for name in ("bbbb", "%", "", "_", "latestt"):
        with pytest.raises(NothingFoundError):
            load_run(database, name)


def test_an_empty_database_has_no_latest_run(database):
    with pytest.raises(NothingFoundError, match="no run is stored"):
        load_run(database, "latest")
    assert list_runs(database) == ()
    assert offenders(database) == usage_report(database) == ()


def test_failed_tests_are_those_that_failed_or_never_ran(database):
    run = make_run()
    plan = [make_assignment(run, p) for p in ("pass.py", "fail.py", "infra.py", "skip.py", "never.py")]
    plan.append(make_assignment(run, "pass.py", repetition=2))
    database.begin_run(run, plan)
    for path, outcome in [("pass", Outcome.PASSED), ("fail", Outcome.FAILED), ("infra", Outcome.INFRA)]:
        database.record(run.id, make_result(run, f"{path}.py", outcome))
    database.record(run.id, make_result(run, "skip.py", Outcome.SKIPPED))
    second = make_assignment(run, "pass.py", repetition=2)
    database.record(run.id, make_result(run, assignment=second))
    assert [t.path for t in failed_tests(database, "latest")] == ["fail.py", "infra.py", "never.py"]


def test_a_diff_tells_outcomes_usage_and_membership(database):
    before, after = make_run(started_at=days_ago(1)), make_run()
    for run in (before, after):
        database.begin_run(run, [])
    record_usage(database, before, "same.py", memory=10)
    record_usage(database, after, "same.py", memory=10)
    record_usage(database, before, "grew.py", memory=10)
    record_usage(database, after, "grew.py", memory=30)
    record_usage(database, before, "broke.py")
    record_usage(database, after, "broke.py", outcome=Outcome.OOM)
    record_usage(database, before, "gone.py")
    record_usage(database, after, "new.py")
    diff = diff_runs(database, before.id, "latest")
    assert (diff.before.id, diff.after.id) == (before.id, after.id)
    (change,) = diff.outcome_changes
    assert (change.test_id.path, change.before, change.after, change.message) == (
        "broke.py",
        Outcome.PASSED,
        Outcome.OOM,
        "it oom",
    )
    assert [(c.test_id.path, c.resource, c.ratio) for c in diff.usage_changes] == [
        ("grew.py", "memory_peak", 3.0),
        ("grew.py", "memory_ratio", pytest.approx(3.0)),
    ]
    assert (diff.only_before, diff.only_after) == ((TestId(path="gone.py"),), (TestId(path="new.py"),))


def test_a_diff_compares_memory_of_one_kind_only(database):
    before, after = make_run(started_at=days_ago(1)), make_run()
    for run, launch in ((before, Launch.FORKED), (after, Launch.PROCESS)):
        database.begin_run(run, [])
        usage = make_usage(memory_peak_bytes=(8 if launch is Launch.FORKED else 30) << 20)
        database.record(run.id, make_result(run, "a.py", usage=usage, slot=SlotUse(launch=launch)))
        bound = make_usage(
            memory_peak_bytes=(8 if run is before else 90) << 20, memory_peak_is_upper_bound=run is after
        )
        database.record(run.id, make_result(run, "b.py", usage=bound))
    assert diff_runs(database, before.id, "latest").usage_changes == ()


def test_an_export_is_plain_json(database):
    run = make_run()
    database.begin_run(run, [make_assignment(run), make_assignment(run, "never.py")])
    database.record(run.id, make_result(run))
    finish(database, run, RunStatus.INTERRUPTED, 130)
    document = export_run(database, "latest", samples=True)
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == 1
    assert document["run"]["status"] == "interrupted"
    assert document["not_run"] == ["never.py"]
    assert document["ledger"]["left"] == ["container x"]
    (test,) = document["tests"]
    assert test["usage"]["memory_peak_bytes"] == 61 * MIB
    assert test["usage"]["source"]["cpu_seconds"] == "kernel"
    assert test["violations"][0]["kind"] == "memory-near"
    assert len(test["attempts"][0]["samples"]) == 5


def test_the_window_queries_read_only_the_index_of_figures(sqlite_database):
    run = make_run()
    sqlite_database.begin_run(run, [])
    record_usage(sqlite_database, run, "a.py")
    with plain_sqlite(sqlite_database.path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT test_id, max(memory_peak_bytes) FROM attempts"
            " WHERE outcome NOT IN ('infra') GROUP BY test_id"
        ).fetchall()
    assert "COVERING INDEX ix_attempts_figures" in plan[0][3]

import pytest

from orchestrator.database.queries.offenders import offenders
from orchestrator.database.queries.runs import failed_tests, list_runs, load_run
from orchestrator.database.queries.usage import usage_report
from orchestrator.errors import NothingFoundError, UsageError
from orchestrator.model.outcomes import Outcome
from tests.unit.database.database_examples import (
    days_ago,
    make_assignment,
    make_result,
    make_run,
)

MIB = 2**20


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

import pytest

from orchestrator.database.queries.run_diff import diff_runs
from orchestrator.model.evidence import Launch, SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import TestId
from tests.unit.database.database_examples import (
    days_ago,
    make_result,
    make_run,
    make_usage,
    record_usage,
)

MIB = 2**20


def test_a_diff_tells_outcomes_usage_and_membership(database):
    before, after = make_run(started_at=days_ago(1)), make_run()
    for run in (before, after):
        database.begin_run(run, [])
    record_usage(database, before, "same.py", memory_mib=10)
    record_usage(database, after, "same.py", memory_mib=10)
    record_usage(database, before, "grew.py", memory_mib=10)
    record_usage(database, after, "grew.py", memory_mib=30)
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


def test_a_diff_compares_figures_of_one_kind_only(database):
    before, after = make_run(started_at=days_ago(1)), make_run()
    for run, launch in ((before, Launch.FORKED), (after, Launch.PROCESS)):
        database.begin_run(run, [])
        usage = make_usage(memory_peak_bytes=(8 if launch is Launch.FORKED else 30) << 20)
        database.record(
            run.id,
            make_result(
                run,
                "a.py",
                usage=usage,
                slot=SlotUse(launch=launch),
                test_seconds=0.1 if launch is Launch.FORKED else 0.9,
            ),
        )
        bound = make_usage(
            memory_peak_bytes=(8 if run is before else 90) << 20, memory_peak_is_upper_bound=run is after
        )
        database.record(run.id, make_result(run, "b.py", usage=bound))
    assert diff_runs(database, before.id, "latest").usage_changes == ()

"""Earlier attempts are read one by one, and the runs of a comparison are chosen."""

import pytest

from orchestrator.database.queries.observations import figures_of_runs, has_branch, observed, runs_up_to
from orchestrator.database.queries.runs import find_run
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import TestId
from tests.unit.database.database_examples import (
    days_ago,
    finish,
    make_assignment,
    make_result,
    make_run,
    make_usage,
)

A = TestId(path="a.py")


def stored(database, age, *, peaks=(1000,), outcome=Outcome.PASSED, **facts):
    """Record a run with that many repetitions of a.py."""
    run = make_run(started_at=days_ago(age), **facts)
    database.begin_run(run, [])
    for number, peak in enumerate(peaks, 1):
        result = make_result(
            run,
            outcome=outcome,
            assignment=make_assignment(run, "a.py", repetition=number),
            usage=make_usage(memory_peak_bytes=peak),
            started_at=days_ago(age),
        )
        database.record(run.id, result)
    finish(database, run)
    return find_run(database, run.id)


def test_attempts_come_newest_first_with_their_limits(database):
    runs = [stored(database, age, peaks=(age * 10,)) for age in (3, 1, 2)]
    stored(database, 40, peaks=(400,))
    found = observed(database, since=days_ago(30))
    assert found[A].memory_peak_bytes == (10, 20, 30)
    assert found[A].run_id[0] == runs[1].id
    assert (found[A].limit_cpus[0], found[A].limit_timeout_seconds[0]) == (2.0, 10.0)
    assert (found[A].outcome[0], found[A].duration_seconds[0]) == (Outcome.PASSED, 0.412)
    assert len(observed(database, since=None, at_most=2)[A]) == 2
    assert len(observed(database, since=None)[A]) == 4


@pytest.mark.parametrize("at_most", [1, 3, 5, 8, 20])
def test_attempts_are_the_same_read_at_once_or_test_by_test(database, at_most):
    for age, project in ((1, "demo"), (2, "other"), (3, "demo"), (4, "demo")):
        stored(database, age, peaks=(age, age + 10), project=project)
    database.project = "demo"
    found = observed(database, since=days_ago(30), at_most=at_most)
    assert [peak % 10 for peak in found[A].memory_peak_bytes] == [1, 1, 3, 3, 4, 4][:at_most]
    assert len(found[A]) == min(at_most, 6)


def test_runs_of_a_branch_up_to_one(database):
    old, middle, new = (stored(database, age, revision=str(age)) for age in (3, 2, 1))
    stored(database, 1.5, branch="other")
    nowhere = stored(database, 0.5, branch=None)

    def ids(newest, **options):
        return [run.id for run in runs_up_to(database, newest, **{"branch": "main", "limit": 9} | options)]

    assert ids(new) == [new.id, middle.id, old.id]
    assert ids(middle) == [middle.id, old.id]
    assert ids(new, limit=1) == [new.id]
    assert ids(new, revision="3") == [old.id]
    assert ids(nowhere, branch=None) == [nowhere.id]
    assert has_branch(database, "demo", "other")
    assert not has_branch(database, "demo", "none")
    assert not has_branch(database, "else", "main")


def test_a_run_that_goes_on_is_not_compared(database):
    done = stored(database, 2)
    running = make_run(started_at=days_ago(1))
    database.begin_run(running, [], owner="alive")
    newest = find_run(database, running.id)
    assert [run.id for run in runs_up_to(database, newest, branch="main", limit=9)] == [done.id]


def test_repetitions_count_once_by_their_median(database):
    first, second = stored(database, 2, peaks=(10, 90, 20)), stored(database, 1, peaks=(40,))
    stored(database, 1, peaks=(99,))
    failed = stored(database, 1, peaks=(1,), outcome=Outcome.FAILED)
    (found,) = figures_of_runs(database, [second.id, first.id, failed.id]).values()
    assert [(one.run_id, one.memory_peak_bytes) for one in found] == [(second.id, 40), (first.id, 20)]
    assert found[0].cpu_seconds == pytest.approx(0.3)


def test_what_was_not_measured_stays_unknown(database):
    run = stored(database, 1, peaks=(None, None))
    assert figures_of_runs(database, [run.id])[A][0].memory_peak_bytes is None
    assert figures_of_runs(database, []) == {}

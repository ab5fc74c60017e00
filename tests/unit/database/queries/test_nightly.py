"""The data of the nightly report: the window, the time before it, and the changes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.database.queries import final_attempts
from orchestrator.database.queries.nightly import nightly
from orchestrator.database.queries.runs import load_run
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.violations import ViolationKind
from tests.unit.database.database_examples import (
    NOW,
    VIOLATION,
    days_ago,
    finish,
    make_assignment,
    make_result,
    make_run,
    make_usage,
)


def night(database, ago, results, **changes):
    """Record a run of that age in days; results are path -> (outcome, MiB)."""
    run = make_run(started_at=days_ago(ago), **changes)
    database.begin_run(run, [])
    for path, (outcome, mib) in results.items():
        usage = make_usage(memory_peak_bytes=mib << 20)
        found = () if outcome is Outcome.PASSED else (VIOLATION,)
        result = make_result(run, path, outcome, usage=usage, started_at=days_ago(ago), violations=found)
        database.record(run.id, result)
    finish(database, run)
    return run


PASSED, FAILED = Outcome.PASSED, Outcome.FAILED


@pytest.fixture
def report(database):
    for ago in (4.5, 3.5, 2.5):
        night(database, ago, {"t/broke": (PASSED, 10), "t/fixed": (FAILED, 10), "t/grew": (PASSED, 10)})
    night(database, 1.5, {"t/broke": (PASSED, 10), "t/fixed": (FAILED, 10), "t/gone": (PASSED, 10)})
    night(database, 0.6, {"t/broke": (PASSED, 11), "t/fixed": (PASSED, 10), "t/grew": (PASSED, 14)})
    night(database, 0.5, {"t/broke": (FAILED, 12), "t/new": (PASSED, 10)})
    return nightly(database, since=days_ago(1), until=NOW, orch_version="1")


def of(report, path):
    return next(test for test in report.tests if test.test_id.path == path)


def test_each_test_is_what_its_last_run_within_the_window_says(report):
    assert [test.test_id.path for test in report.tests] == ["t/broke", "t/fixed", "t/grew", "t/new"]
    assert report.outcomes == {PASSED: 3, FAILED: 1}
    assert len(of(report, "t/broke").now) == 2
    assert of(report, "t/broke").last.outcome is FAILED
    assert [len(run.counts) > 0 for run in report.runs] == [True, True]
    assert len(of(report, "t/broke").samples) == 5


def test_what_is_new_and_what_is_cured(report):
    flags = {t.test_id.path: (t.newly_failing, t.fixed) for t in report.tests}
    assert flags == {
        "t/broke": (True, False),
        "t/fixed": (False, True),
        "t/grew": (False, False),
        "t/new": (False, False),
    }
    assert report.compares
    assert not of(report, "t/new").before
    assert [str(test) for test in report.gone] == ["t/gone"]


def test_violations_before_are_those_of_the_last_deciding_attempt(report):
    assert of(report, "t/fixed").kinds_before == {ViolationKind.MEMORY_NEAR}
    assert of(report, "t/fixed").kinds == frozenset()
    assert of(report, "t/broke").kinds_before == frozenset()
    assert of(report, "t/broke").kinds == {ViolationKind.MEMORY_NEAR}


def test_growth_needs_three_attempts_before(report):
    assert of(report, "t/grew").change(Resource.MEMORY) == pytest.approx(0.4)
    assert of(report, "t/new").change(Resource.MEMORY) is None
    assert of(report, "t/broke").maximum(Resource.MEMORY) == 12 << 20
    assert len(of(report, "t/broke").history(Resource.MEMORY)) == 6


def test_costs_of_the_window_and_of_the_one_before(report):
    assert (report.cost.runs, report.cost.attempts) == (2, 5)
    assert report.cost.cpu_seconds == pytest.approx(1.5)
    assert report.cost_before is not None
    assert (report.cost_before.runs, report.cost_before.attempts) == (1, 3)


def test_an_end_that_says_nothing_does_not_hide_the_last_that_did(database):
    night(database, 0.6, {"t/a": (FAILED, 10)})
    night(database, 0.5, {"t/a": (Outcome.INFRA, 10), "t/b": (Outcome.INFRA, 10)})
    report = nightly(database, since=days_ago(1), until=NOW, orch_version="1")
    assert of(report, "t/a").outcome is FAILED
    assert of(report, "t/b").outcome is Outcome.INFRA
    assert not report.compares


def test_without_a_beginning_all_is_the_window(database):
    night(database, 40, {"t/a": (PASSED, 10)})
    report = nightly(database, orch_version="1")
    assert len(report.tests) == 1
    assert report.cost_before is None
    assert report.main is not None


def test_history_goes_back_fourteen_windows(database):
    for ago in (20, 14.5, 0.5):
        night(database, ago, {"t/a": (PASSED, 10)})
    report = nightly(database, since=days_ago(1), until=NOW + timedelta(seconds=1), orch_version="1")
    assert len(of(report, "t/a").before) == 1


def test_a_long_window_rests_on_the_newest_attempts_before_it(database):
    run = make_run(started_at=days_ago(9))
    database.begin_run(run, [])
    for number in range(60):
        usage = make_usage(memory_peak_bytes=(100 + number) << 20)
        ago = days_ago(9 + (60 - number) / 10)
        assignment = make_assignment(run, "t/many", repetition=1 + number)
        database.record(run.id, make_result(run, assignment=assignment, usage=usage, started_at=ago))
    finish(database, run)
    night(database, 8, {"t/few": (PASSED, 10), "t/many": (PASSED, 10)})
    night(database, 1, {"t/few": (PASSED, 11), "t/many": (PASSED, 11)})
    short = nightly(database, since=days_ago(2), until=NOW, orch_version="1")
    long = nightly(database, since=days_ago(4), until=NOW, orch_version="1")
    assert len(of(short, "t/many").before) == 61
    assert of(long, "t/many").before == of(short, "t/many").before.newest(50)
    assert of(long, "t/few").before == of(short, "t/few").before
    assert of(long, "t/few").now == of(short, "t/few").now


def test_a_test_that_ran_seldom_keeps_its_history_beside_one_that_ran_often(database):
    for ago in (30, 29):
        night(database, ago, {"t/seldom": (PASSED, 10 + ago), "t/often": (PASSED, 5)})
    run = make_run(started_at=days_ago(20))
    database.begin_run(run, [])
    for number in range(130):  # more than 50 for each of both tests, and the fifth that is read besides
        usage = make_usage(memory_peak_bytes=(100 + number) << 20)
        assignment = make_assignment(run, "t/often", repetition=1 + number)
        ago = days_ago(20 - number / 20)
        database.record(run.id, make_result(run, assignment=assignment, usage=usage, started_at=ago))
    finish(database, run)
    night(database, 1, {"t/seldom": (PASSED, 11), "t/often": (PASSED, 11)})
    found = nightly(database, since=days_ago(4), until=NOW, orch_version="1")
    assert list(of(found, "t/seldom").before.measured(Resource.MEMORY)) == [40 << 20, 39 << 20]
    assert list(of(found, "t/often").before.measured(Resource.MEMORY)) == [(180 + n) << 20 for n in range(50)]


@pytest.mark.parametrize("summed_up", [False, True])
@pytest.mark.parametrize("since", [60, None])
def test_a_long_window_has_its_newest_attempts_and_the_highest_figures_of_all(database, summed_up, since):
    night(database, 59, {"t/often": (PASSED, 900), "t/seldom": (PASSED, 30)})
    night(database, 58, {"t/often": (Outcome.INFRA, 5000)})
    run = make_run(started_at=days_ago(40))
    database.begin_run(run, [])
    for number in range(130):  # more than 50 for each of both tests, and the fifth that is read besides
        usage = make_usage(memory_peak_bytes=(100 + number) << 20)
        assignment = make_assignment(run, "t/often", repetition=1 + number)
        ago = days_ago(40 - number / 20)
        database.record(run.id, make_result(run, assignment=assignment, usage=usage, started_at=ago))
    finish(database, run)
    night(database, 1, {"t/often": (PASSED, 11)})
    if summed_up:
        database.sum_up()
    found = nightly(database, since=since and days_ago(since), until=NOW, orch_version="1")
    often, seldom = of(found, "t/often"), of(found, "t/seldom")
    assert often.maximum(Resource.MEMORY) == 900 << 20, "of all that was judged"
    assert list(often.now.measured(Resource.MEMORY)) == [*((181 + n) << 20 for n in range(49)), 11 << 20]
    assert seldom.maximum(Resource.MEMORY) == 30 << 20
    assert list(seldom.now.measured(Resource.MEMORY)) == [30 << 20]
    each = make_usage().cpu_seconds
    assert found.cost.attempts == 134
    assert found.cost.cpu_seconds == pytest.approx(133 * each), "of those that were judged"
    assert found.cost_before is None


def test_only_runs_that_say_something_new_are_loaded(database, monkeypatch):
    night(database, 0.9, {"t/gone": (PASSED, 10), "t/here": (PASSED, 10)})
    for ago in (0.8, 0.7, 0.6, 0.5):
        night(database, ago, {"t/here": (PASSED, 10)})
    loaded = []

    def noting(db, run_id):
        loaded.append(run_id)
        return load_run(db, run_id)

    monkeypatch.setattr(final_attempts, "load_run", noting)
    found = nightly(database, since=days_ago(1), until=NOW, orch_version="1")
    assert [test.test_id.path for test in found.tests] == ["t/gone", "t/here"]
    assert loaded == [found.runs[0].id, found.runs[-1].id]

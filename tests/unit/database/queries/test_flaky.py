"""Flaky tests are read from a handmade history, with the circumstances of each attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.database.queries import flaky
from orchestrator.database.queries.flaky import always_failing, flaky_tests
from orchestrator.model.evidence import Launch, SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import TestResult, Verb
from orchestrator.model.runs import HostInfo
from orchestrator.model.tests import TestId
from tests.unit.database.database_examples import (
    ATTESTATION,
    HOST,
    finish,
    make_assignment,
    make_attempt,
    make_run,
    make_usage,
)

NOW = datetime.now(UTC).replace(microsecond=0)


class Past:
    """Records runs at given hours with attempts at given times."""

    def __init__(self, database):
        self.database = database
        self.run = None

    def begin(self, *, hours_ago, project="demo", host=HOST):
        self.run = make_run(project=project, started_at=NOW - timedelta(hours=hours_ago), host=host)
        self.database.begin_run(self.run, [])

    def attempt(self, name, outcome, *, at=0.0, seconds=1.0, container="own", position=1, number=1, **more):
        usage = more.pop("usage", make_usage())
        assignment = make_assignment(self.run, name, attempt=number, repetition=more.pop("repetition", 1))
        made = make_attempt(assignment, outcome=outcome, usage=usage)
        evidence = replace(
            made.evidence,
            started_at=self.run.started_at + timedelta(seconds=at),
            timings=replace(made.evidence.timings, test_seconds=seconds),
            attestation=replace(ATTESTATION, container_id=f"{name}-{number}" if container == "own" else container),
            slot=SlotUse(position=position, launch=more.pop("launch", Launch.PROCESS)),
        )
        return replace(made, evidence=evidence)

    def result(self, *attempts):
        last = attempts[-1]
        verb = Verb.PASS if last.outcome is Outcome.PASSED else Verb.FAIL
        self.database.record(
            self.run.id,
            TestResult(attempts=attempts, outcome=last.outcome, verb=verb, flaky=len(attempts) > 1),
        )

    def one(self, name, outcome="passed", **where):
        self.result(self.attempt(name, Outcome(outcome), **where))


@pytest.fixture
def past(database):
    return Past(database)


def names(found):
    return [str(test.test_id) for test in found]


def test_which_outcomes_make_a_test_flaky(past, database):
    for hours, outcomes in ((30, "..F."), (20, "F.F."), (10, ".FF.")):
        past.begin(hours_ago=hours)
        for name, sign in zip(("forth.py", "broken.py", "always.py", "never.py"), outcomes, strict=True):
            past.one(name, "failed" if sign == "F" else "passed")
    past.begin(hours_ago=5)
    past.result(
        past.attempt("retried.py", Outcome.FAILED), past.attempt("retried.py", Outcome.PASSED, number=2, at=2)
    )
    assert names(flaky_tests(database, since=None)) == ["forth.py", "retried.py"]
    assert names(flaky_tests(database, since=NOW - timedelta(hours=15))) == ["retried.py"]
    assert names(flaky_tests(database, since=None, until=NOW - timedelta(hours=8))) == ["forth.py"]
    database.project = "another"
    assert names(flaky_tests(database, since=None)) == ["forth.py", "retried.py"], "it is the only project there"
    (only,) = flaky_tests(database, since=None, only=TestId(path="never.py"))
    assert [t.failed for t in only.attempts] == [False, False, False]


def test_neighbours_are_the_tests_that_ran_at_the_same_time(past, database):
    past.begin(hours_ago=2)
    past.one("x.py", "failed", at=10, seconds=4)
    past.one("all.py", at=0, seconds=60)
    past.one("half.py", at=12, seconds=30)
    past.one("before.py", at=5, seconds=4)
    past.one("after.py", at=14.5, seconds=1)
    past.one("slept.py", "skipped", at=11, seconds=1)
    past.begin(hours_ago=1)
    past.one("x.py", at=10, seconds=4)
    (found,) = flaky_tests(database, since=None, only=TestId(path="x.py"))
    failed, passed = found.attempts
    assert (failed.failed, passed.failed) == (True, False)
    assert failed.neighbours == {"all.py", "half.py"}
    assert failed.others == pytest.approx(1.5)
    assert (passed.neighbours, passed.others) == (frozenset(), 0.0)


def test_the_test_before_it_in_its_container_is_no_neighbour(past, database):
    """Times are rounded, so the preceding test may seem to end after this one began."""
    past.begin(hours_ago=1)
    past.one("first.py", at=0, seconds=1.00001, container="c")
    past.one("x.py", "failed", at=1, seconds=1, container="c", position=2, launch=Launch.FORKED)
    (found,) = flaky_tests(database, since=None, only=TestId(path="x.py"))
    (seen,) = found.attempts
    assert (seen.after, seen.neighbours, seen.slot_position, seen.forked) == ("first.py", frozenset(), 2, True)


def test_attempts_have_figures_and_slot_positions(past, database):
    past.begin(hours_ago=1, host=HostInfo(id="m2", cpus=2, memory_bytes=1 << 30, kernel="6", python="3"))
    usage = make_usage(memory_peak_bytes=256 << 20, throttled_seconds=0.5)
    past.one("x.py", "timeout", seconds=2, usage=usage)
    past.one("y.py", seconds=2, usage=make_usage(memory_peak_bytes=None, throttled_seconds=None))
    (x,) = flaky_tests(database, since=None, only=TestId(path="x.py"))
    (y,) = flaky_tests(database, since=None, only=TestId(path="y.py"))
    assert (x.attempts[0].host, x.attempts[0].profile, x.attempts[0].outcome) == (
        "m2",
        "standard",
        Outcome.TIMEOUT,
    )
    assert (x.attempts[0].throttled_ratio, x.attempts[0].memory_ratio) == (0.25, 0.5)
    assert (y.attempts[0].throttled_ratio, y.attempts[0].memory_ratio) == (None, None)


def test_the_oldest_runs_are_given_up_where_there_are_too_many(past, database, monkeypatch):
    for hours in (3, 2, 1):
        past.begin(hours_ago=hours)
        past.one("x.py", "failed" if hours == 2 else "passed")
        finish(database, past.run)
    monkeypatch.setattr(flaky, "MAX_ATTEMPTS_OF_RUNS", 2)
    (found,) = flaky_tests(database, since=None)
    assert len(found.attempts) == 3, "too few for a cause: nobody asks what was beside them"
    assert [t.others for t in found.attempts] == [None] * 3
    (found,) = flaky_tests(database, since=None, only=TestId(path="x.py"))
    assert [t.started_at for t in found.attempts] == [NOW - timedelta(hours=2), NOW - timedelta(hours=1)]


def test_tests_that_always_fail_are_listed_separately(past, database):
    """CASES B7: a test that always fails is not flaky, and the other tests do not always fail."""
    for hours, outcomes in ((30, "F.F."), (20, "FFF."), (10, "F.F.")):
        past.begin(hours_ago=hours)
        for name, sign in zip(("always.py", "once.py", "too.py", "never.py"), outcomes, strict=True):
            past.one(name, "failed" if sign == "F" else "passed")
    past.one("single.py", "failed")
    found = always_failing(database, since=None)
    assert [(str(test), times) for test, times in found] == [("always.py", 3), ("too.py", 3)]
    assert always_failing(database, since=NOW - timedelta(hours=15)) == ()


@pytest.mark.parametrize("first", [{"position": 7}, {"launch": Launch.FORKED}])
def test_a_failure_and_its_confirmation_in_a_fresh_slot_are_one_failure(past, database, first):
    past.begin(hours_ago=3)
    past.one("flaky.py")
    past.begin(hours_ago=2)
    for name in ("flaky.py", "broken.py"):
        past.result(
            past.attempt(name, Outcome.FAILED, **first),
            past.attempt(name, Outcome.FAILED, number=2, at=2),
            past.attempt(name, Outcome.FAILED, number=3, at=4),  # a retry counts
        )
    past.begin(hours_ago=1)
    past.one("flaky.py")
    past.result(
        past.attempt("poisoned.py", Outcome.FAILED, **first),
        past.attempt("poisoned.py", Outcome.PASSED, number=2, at=2),
    )
    found = {
        str(test.test_id): [one.failed for one in test.attempts] for test in flaky_tests(database, since=None)
    }
    assert found == {"flaky.py": [False, True, True, False], "poisoned.py": [True, False]}
    assert [(str(test), times) for test, times in always_failing(database, since=None)] == [("broken.py", 2)]

"""Causes of flaky tests are found in simulated histories: the planted one, and none where there is none."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.analysis.flakiness import LEVEL, find_causes, suspects
from orchestrator.model.flakiness import (
    AttemptContext,
    Circumstance,
    Factor,
    FailureCounts,
    FlakyTest,
    is_intermittent,
)
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import TestId

START = datetime(2026, 11, 1, tzinfo=UTC)
OTHERS = [f"test/other_{n}.py" for n in range(60)]


def attempt(**changes):
    plain = {
        "run_id": "r",
        "repetition": 1,
        "started_at": START,
        "outcome": Outcome.PASSED,
        "profile": "fast",
        "host": "one",
        "duration_seconds": 1.0,
        "throttled_ratio": 0.0,
        "memory_ratio": 0.3,
        "slot_position": 1,
        "forked": False,
        "others": 1.0,
    }
    return AttemptContext(**{**plain, **changes})


def chaos(source, night, failing, **fixed):
    """Return an attempt with random circumstances; it has more neighbours if the machine is full."""
    crowd = source.random()
    by_chance = {
        "run_id": f"r{night}",
        "started_at": START + timedelta(days=night),
        "host": source.choice("ab"),
        "duration_seconds": source.lognormvariate(0, 0.3),
        "throttled_ratio": source.betavariate(1, 8),
        "memory_ratio": source.betavariate(8, 2),
        "slot_position": source.choice([1, 1, 2, 5]),
        "forked": source.random() < 0.5,
        "others": 4 * crowd,
        "neighbours": frozenset(name for name in OTHERS if source.random() < 0.3 * crowd + 0.02),
        "after": source.choice(OTHERS[:12]),
    }
    made = attempt(**{**by_chance, **fixed})
    return replace(made, outcome=Outcome.FAILED if source.random() < failing(made) else Outcome.PASSED)


def history(source, nights, failing, *, repeat=1):
    """Return a history of one run a night, with a retry in a fresh slot and with fewer neighbours after each
    failure.
    """
    attempts = []
    for night in range(nights):
        host = source.choice("ab")
        for repetition in range(repeat):
            attempts.append(chaos(source, night, failing, host=host, repetition=repetition + 1))
            if attempts[-1].failed:
                few = {
                    "slot_position": 1,
                    "forked": False,
                    "others": 0.3,
                    "after": None,
                    "neighbours": frozenset(),
                }
                attempts.append(chaos(source, night, failing, host=host, repetition=repetition + 1, **few))
    return FlakyTest(test_id=TestId(path="test/x.py"), attempts=tuple(attempts))


def apart(*attempts):
    """Return a flaky test with these attempts, each in a run of its own."""
    numbered = (replace(one, run_id=f"r{number}") for number, one in enumerate(attempts))
    return FlakyTest(test_id=TestId(path="a"), attempts=tuple(numbered))


def test_no_cause_is_named_where_there_is_none():
    """The stated error rate is 1 of 100 tests. Of 160 tests, 6 or more would get a cause by chance once in 100
    cases.
    """
    source = random.Random(11)
    named = sum(
        bool(find_causes(history(source, length, lambda _, rate=rate: rate)).causes)
        for length, rate in ((40, 0.25), (80, 0.2), (160, 0.1), (160, 0.3))
        for _ in range(40)
    )
    assert LEVEL == 0.01
    assert named <= 5


@pytest.mark.parametrize("repeat", [1, 8])
def test_failures_of_a_bad_night_have_no_cause(repeat):
    """All attempts of a night share its host and its failure rate, so they count as one observation."""
    source = random.Random(7)
    named = 0
    for _ in range(40):
        luck = {f"r{night}": source.choice([0.02, 0.02, 0.7]) for night in range(90)}
        found = find_causes(history(source, 80 // repeat, lambda t, luck=luck: luck[t.run_id], repeat=repeat))
        named += bool(found.causes)
    assert named <= 3, "at 1 of 100 four or more would happen in 1 of 1,000 cases"


PLANTED = {
    Factor.NEIGHBOUR: lambda t: 0.6 if OTHERS[3] in t.neighbours else 0.03,
    Factor.THROTTLED: lambda t: 0.7 if t.throttled_ratio > 0.2 else 0.05,
    Factor.REUSED: lambda t: 0.4 if t.slot_position > 1 else 0.02,
    Factor.HOST: lambda t: 0.4 if t.host == "a" else 0.05,
    Factor.CROWD: lambda t: 0.5 if t.others > 3 else 0.05,
    Factor.AFTER: lambda t: 0.9 if t.after == OTHERS[7] else 0.04,
    Factor.MEMORY: lambda t: 0.5 if t.memory_ratio >= 0.9 else 0.05,
}


@pytest.mark.parametrize("factor", PLANTED)
def test_a_planted_cause_is_found(factor):
    """The cause is found, and named first, in at least 16 of 20 histories of 160 attempts."""
    source = random.Random(5)
    found = [find_causes(history(source, 160, PLANTED[factor])) for _ in range(20)]
    first = [finding.causes[0].of for finding in found if finding.causes]
    right = {Factor.NEIGHBOUR: OTHERS[3], Factor.AFTER: OTHERS[7]}
    hits = [of for of in first if of.factor is factor and of.subject in ("", "a", "b", right.get(factor))]
    assert len(hits) >= 16, first


def test_a_finding_has_rates_interval_and_cause():
    attempts = (
        [attempt(slot_position=2, outcome=Outcome.FAILED)] * 6 + [attempt(slot_position=2)] * 2 + [attempt()] * 30
    )
    finding = find_causes(apart(*attempts))
    (cause,) = finding.causes
    assert (finding.failed, finding.total, finding.ends) == (6, 38, {Outcome.FAILED: 6})
    assert finding.low < 6 / 38 < finding.high
    assert cause.of == Circumstance(factor=Factor.REUSED)
    assert (cause.present, cause.absent) == (FailureCounts(failed=6, total=8), FailureCounts(failed=0, total=30))
    assert not cause.helps


def test_too_few_failures_have_no_cause():
    attempts = [attempt(slot_position=2, outcome=Outcome.FAILED)] * 4 + [attempt()] * 60
    finding = find_causes(apart(*attempts))
    assert (finding.missing, finding.causes, finding.tried) == (1, (), 0)


def test_circumstances_that_always_occur_together_are_named_together():
    bad = attempt(outcome=Outcome.FAILED, slot_position=3, forked=True, after="b", neighbours=frozenset({"c"}))
    finding = find_causes(apart(*[bad] * 6, *[attempt()] * 20))
    named = finding.causes[0]
    assert named.of.factor is Factor.REUSED
    assert [(one.factor, one.subject) for one in named.together_with] == [
        (Factor.FORKED, ""),
        (Factor.NEIGHBOUR, "c"),
        (Factor.AFTER, "b"),
    ]
    assert finding.tried == 1


def test_running_alone_can_be_the_cause():
    alone = attempt(outcome=Outcome.FAILED, others=0.0)
    finding = find_causes(apart(*[alone] * 6, *[attempt()] * 20))
    assert any(c.of.factor is Factor.PARALLEL and c.helps for c in finding.causes)


def test_a_longer_time_is_a_sign_and_no_cause():
    slow = attempt(outcome=Outcome.FAILED, duration_seconds=5.0)
    finding = find_causes(apart(*[slow] * 8, *[attempt()] * 30))
    assert [cause.of.factor for cause in finding.causes] == [Factor.DURATION]
    assert not finding.has_cause


def test_a_figure_that_was_not_measured_is_left_out():
    bad = attempt(outcome=Outcome.FAILED, throttled_ratio=None, memory_ratio=None, others=None)
    finding = find_causes(apart(*[bad] * 8, *[attempt()] * 30))
    assert finding.causes == ()


def test_a_circumstance_that_only_retries_lack_is_found():
    """Each night the test fails in a reused container and passes in the fresh container of its retry."""
    attempts = []
    for night in range(8):
        bad = attempt(run_id=f"r{night}", slot_position=4, outcome=Outcome.FAILED)
        attempts += [bad, replace(bad, slot_position=1, outcome=Outcome.PASSED)]
    finding = find_causes(FlakyTest(test_id=TestId(path="a"), attempts=tuple(attempts)))
    assert finding.causes[0].of.factor is Factor.REUSED
    assert finding.causes[0].present == FailureCounts(failed=8, total=8)


def test_repetitions_of_one_run_are_compared():
    attempts = [attempt(repetition=n, outcome=Outcome.FAILED, throttled_ratio=0.5 + n / 99) for n in range(9)]
    attempts += [attempt(repetition=n, neighbours=frozenset("x"), throttled_ratio=n / 999) for n in range(10, 40)]
    finding = find_causes(FlakyTest(test_id=TestId(path="a"), attempts=tuple(attempts)))
    assert {cause.of.factor for cause in finding.causes} == {Factor.THROTTLED, Factor.NEIGHBOUR}
    (neighbour,) = (cause for cause in finding.causes if cause.of.factor is Factor.NEIGHBOUR)
    assert neighbour.helps


def test_suspects_are_those_seen_no_less_often_with_failures():
    bad = attempt(outcome=Outcome.FAILED, neighbours=frozenset({"guilty", "always"}))
    good = attempt(neighbours=frozenset({"always", "innocent"}))
    assert suspects([bad] * 2 + [good] * 9, Factor.NEIGHBOUR, at_most=3) == ("guilty", "always")
    assert suspects([good] * 4 + [attempt(neighbours=frozenset({"rare"}))], Factor.NEIGHBOUR, at_most=2) == (
        "always",
        "innocent",
    )


@pytest.mark.parametrize(
    ("attempts", "flaky"),
    [
        ("r1:F r2:. r3:.", False),
        ("r1:. r2:F r3:F", False),
        ("r1:. r2:F r3:.", True),
        ("r1:F. r2:.", True),
        ("r1:.", False),
        ("r1:. r1#2:F", False),
    ],
)
def test_which_outcomes_make_a_test_flaky(attempts, flaky):
    """A test that broke once or was fixed once is not flaky; one that does both within a repetition is."""
    seen = [
        ((place, 1), sign == "F") for place, signs in (w.split(":") for w in attempts.split()) for sign in signs
    ]
    assert is_intermittent(seen) is flaky


def test_a_mechanism_comes_before_the_neighbour_that_was_there_or_missing():
    """CASES B8: 14 failures, all held back by the CPU limit; a neighbour is missing in all of them, and chance
    says the same of both.
    """
    source = random.Random(8)
    attempts = []
    for night in range(40):
        bad = night % 3 == 0
        attempts.append(
            attempt(
                run_id=f"r{night}",
                started_at=START + timedelta(days=night),
                outcome=Outcome.FAILED if bad else Outcome.PASSED,
                throttled_ratio=source.uniform(0.24, 0.29) if bad else 0.01,
                neighbours=frozenset() if bad else frozenset({"test/b.py"}),
            )
        )
    found = find_causes(FlakyTest(test_id=TestId(path="test/x.py"), attempts=tuple(attempts)))
    assert found.failed == 14
    assert [cause.of.factor for cause in found.causes[:2]] == [Factor.THROTTLED, Factor.NEIGHBOUR]

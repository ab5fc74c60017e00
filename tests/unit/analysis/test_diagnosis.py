"""A diagnosis names the conditions that make a test fail, with the stated error rate."""

from __future__ import annotations

import random

import pytest

from orchestrator.analysis.diagnosis import LEVEL, compare_conditions
from orchestrator.model.flakiness import Condition, ConditionResult


def result(condition, failed, total):
    return ConditionResult(condition=condition, failed=failed, total=total, low=0.0, high=1.0)


def test_a_condition_that_makes_the_test_fail_is_named():
    results = [result(c, 0, 10) for c in Condition if c is not Condition.ITSELF]
    weighed, culprits = compare_conditions([*results, result(Condition.ITSELF, 8, 10)])
    assert culprits == (Condition.ITSELF,)
    by = {one.condition: one for one in weighed}
    assert by[Condition.ALONE].chance is None
    assert by[Condition.ITSELF].chance == pytest.approx(0.000357 * 6, rel=0.01)  # 8 of 10 against 0 of 10, Holm


def test_five_runs_suffice_for_a_clear_difference():
    results = [result(c, 0, 5) for c in Condition if c is not Condition.REUSED]
    assert compare_conditions([*results, result(Condition.REUSED, 5, 5)])[1] == (Condition.REUSED,)


def test_a_test_that_fails_alone_as_often_has_no_condition():
    assert compare_conditions([result(condition, 5, 10) for condition in Condition])[1] == ()


def test_nothing_is_compared_without_runs_alone():
    results = [result(Condition.ALONE, 0, 0), result(Condition.ITSELF, 9, 10)]
    assert compare_conditions(results) == (tuple(results), ())


def test_an_untried_condition_has_no_chance():
    weighed, culprits = compare_conditions([result(Condition.ALONE, 0, 10), result(Condition.NEIGHBOURS, 0, 0)])
    assert (weighed[1].chance, culprits) == (None, ())


def test_without_a_cause_one_is_named_no_more_often_than_stated():
    """500 tests that fail in 3 of 10 runs whatever the condition; 37 or more would be rarer than 1 in 100."""
    source = random.Random(2)
    named = 0
    for _ in range(500):
        results = [result(c, sum(source.random() < 0.3 for _ in range(10)), 10) for c in Condition]
        named += bool(compare_conditions(results)[1])
    assert LEVEL == 0.05
    assert named <= 36

"""Flaky tests and diagnoses in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.model.flakiness import (
    AttemptContext,
    Cause,
    Circumstance,
    Condition,
    ConditionResult,
    Diagnosis,
    Factor,
    FailureCounts,
    FlakinessFinding,
    FlakyTest,
)
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import TestId
from orchestrator.reports.tables.diagnosis import conclusions, diagnosis_table, result_text
from orchestrator.reports.tables.flaky import (
    cause_text,
    chance_text,
    flaky_lines,
    flaky_table,
    rate_text,
    sentences,
    strip,
    worst_first,
)
from orchestrator.reports.tables.render import raw_rows

SYMPTOMS = {".": Outcome.PASSED, "F": Outcome.FAILED, "T": Outcome.TIMEOUT, "O": Outcome.OOM, "X": Outcome.CRASHED}


def attempts(text):
    """A word a run, a sign an attempt."""
    return tuple(
        AttemptContext(
            run_id=f"r{number}", repetition=1, started_at=datetime(2026, 1, 1, tzinfo=UTC), outcome=SYMPTOMS[sign],
            profile="p", host="h", duration_seconds=1, throttled_ratio=None, memory_ratio=None, slot_position=1,
            forked=False, others=None,
        )
        for number, word in enumerate(text.split())
        for sign in word
    )  # fmt: skip


def finding(*causes, **changes):
    plain = FlakinessFinding(
        test_id=TestId(path="t.py"), failed=7, total=40, low=0.087, high=0.319, tried=30, causes=causes
    )
    return replace(plain, **{"ends": {Outcome.FAILED: 7}, **changes})


def cause(factor=Factor.NEIGHBOUR, subject="test/b.py", **changes):
    plain = Cause(
        of=Circumstance(factor=factor, subject=subject),
        chance=1 / 2345,
        present=FailureCounts(failed=6, total=9),
        absent=FailureCounts(failed=1, total=31),
    )
    return replace(plain, **changes)


def figure(factor, failed, passed):
    return cause(factor, "", present=None, absent=None, failed_median=failed, passed_median=passed)


def test_the_strip_is_plain_and_has_the_newest_right():
    assert strip(attempts(". F T O X .")) == ".FTOX."
    assert strip(attempts(". F. . F.F .")) == ". F. . F.F ."
    assert strip(attempts("F " + ". " * 99)) == "." * 60
    assert strip(attempts("F. " * 40), width=10) == ". F. F. F."


def test_rates_and_odds():
    assert rate_text(7, 40, 0.0873, 0.3195) == "7 of 40 failed: 18 % (8.7 to 32 %)"
    assert chance_text(1 / 2345) == "by chance 1 in 2,300"
    assert chance_text(0.009) == "by chance 1 in 110"
    assert chance_text(1e-9) == "by chance less than 1 in 1,000,000"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (cause(), "fails 6 of 9 beside test/b.py, 1 of 31 otherwise"),
        (cause(Factor.REUSED, ""), "fails 6 of 9 after other tests in its container, 1 of 31 otherwise"),
        (
            cause(
                Factor.PARALLEL,
                "",
                present=FailureCounts(failed=1, total=31),
                absent=FailureCounts(failed=6, total=9),
            ),
            "fails 6 of 9 alone, 1 of 31 otherwise",
        ),
        (
            figure(Factor.THROTTLED, 0.42, 0.03),
            "throttled by its CPU limit 42 % of the time when it fails, 3.0 % otherwise",
        ),
        (figure(Factor.CROWD, 3.24, 1.0), "3.2 tests beside it when it fails, 1.0 otherwise"),
        (figure(Factor.DURATION, 0.4, 1.2), "takes 0.400s when it fails, 1.200s when it passes"),
    ],
)
def test_a_cause_is_one_sentence(given, said):
    assert cause_text(given) == f"{said} (by chance 1 in 2,300)"


@pytest.mark.parametrize("factor", Factor)
def test_every_factor_has_words(factor):
    given = cause(factor, "\x1b[31mname\n") if factor.value else None
    text = cause_text(given)
    assert "\x1b" not in text
    assert "\n" not in text
    assert "{" not in text


def test_what_came_together_is_named():
    others = tuple(Circumstance(factor=Factor.NEIGHBOUR, subject=f"n{n}") for n in range(5))
    assert cause_text(cause(together_with=others)).endswith(
        "cannot be distinguished from: beside n0, beside n1, beside n2 and 2 more"
    )


def test_nothing_is_guessed():
    assert sentences(finding()) == ["no cause found in 7 failures (30 circumstances examined)"]
    assert sentences(finding(figure(Factor.DURATION, 0.4, 1.2)))[0].startswith("no cause found in 7 failures")
    assert sentences(finding(missing=2, failed=3)) == [
        "too few attempts to find a cause (3 failures of 40): 2 more failures are needed"
    ]
    assert sentences(finding(missing=1, failed=36))[0].endswith("one more pass is needed")
    assert sentences(finding(missing=4, failed=1, ends={Outcome.OOM: 1}))[0] == "each failure ran out of memory"


def test_a_paragraph_a_test_and_a_row_a_test():
    rows = [(FlakyTest(test_id=TestId(path="t.py"), attempts=attempts(". F . F")), finding(cause()))]
    lines = flaky_lines(rows, more=3)
    assert lines[:4] == [
        "t.py",
        "  7 of 40 failed: 18 % (8.7 to 32 %)",
        "  .F.F",
        "  - fails 6 of 9 beside test/b.py, 1 of 31 otherwise (by chance 1 in 2,300)",
    ]
    assert "3 more tests with a larger --limit" in lines
    assert all(line.isascii() for line in lines)
    (row,) = raw_rows(flaky_table(rows))
    assert (row["test"], row["rate"], row["factor"], row["subject"]) == ("t.py", 0.175, "neighbour", "test/b.py")
    assert row["chance"] == pytest.approx(1 / 2345)


def test_those_that_surely_fail_often_come_first():
    once = (FlakyTest(test_id=TestId(path="once"), attempts=()), finding(failed=1, total=2, low=0.09, high=0.9))
    often = (
        FlakyTest(test_id=TestId(path="often"), attempts=()),
        finding(failed=30, total=90, low=0.24, high=0.44),
    )
    assert [str(test.test_id) for test, _ in worst_first([once, often])] == ["often", "once"]


def result(condition, failed, total=10, **changes):
    plain = ConditionResult(condition=condition, detail="so", failed=failed, total=total, low=0.0, high=0.28)
    return replace(plain, ends={Outcome.FAILED: failed} if failed else {}, **changes)


def diagnosis(*results, culprits=()):
    return Diagnosis(test_id=TestId(path="t"), run_id="0" * 36, results=results, culprits=culprits)


def test_a_diagnosis_names_what_makes_it_fail_and_what_to_do():
    bad = result(Condition.ITSELF, 8, chance=0.002, message="lock is taken")
    said = conclusions(diagnosis(result(Condition.ALONE, 0), bad, culprits=(Condition.ITSELF,)))
    assert said[0] == "fails with itself (8 of 10: 8 failed, by chance 1 in 500)"
    assert said[1].strip() == "message: lock is taken"
    assert "group" in said[2]
    assert len(said) == 3


@pytest.mark.parametrize("condition", [c for c in Condition if c is not Condition.ALONE])
def test_each_condition_has_advice(condition):
    said = conclusions(diagnosis(result(Condition.ALONE, 0), result(condition, 8), culprits=(condition,)))
    assert len(said) == 2


def test_a_diagnosis_without_a_culprit_says_what_is_open():
    (alone,) = conclusions(diagnosis(result(Condition.ALONE, 4), result(Condition.ITSELF, 5)))
    assert alone.startswith("fails alone too (4 of 10: 4 failed)")
    (never,) = conclusions(diagnosis(result(Condition.ALONE, 0), result(Condition.ITSELF, 0)))
    assert (
        never == "did not fail in 20 attempts; alone its failure rate can still be up to 28 %: try a larger --runs"
    )
    (maybe,) = conclusions(diagnosis(result(Condition.ALONE, 0), result(Condition.ITSELF, 2, low=0.05)))
    assert maybe.startswith("failed 2 times, most often with itself (2 of 10)")
    (nothing,) = conclusions(diagnosis(result(Condition.ALONE, 0, total=0)))
    assert nothing.startswith("no conclusion")


def test_a_condition_is_one_line_and_one_row():
    tried, skipped = result(Condition.ALONE, 1), result(Condition.NEIGHBOURS, 0, total=0, skipped="none is known")
    assert result_text(tried) == "alone             1 of 10 failed  10 % (0 to 28 %)   so".replace(
        "alone", "alone ", 1
    )
    assert "not tried: none is known" in result_text(skipped)
    first, second = raw_rows(diagnosis_table(diagnosis(tried, skipped)))
    assert (first["failed"], first["attempts"], first["rate"]) == (1, 10, 0.1)
    assert (second["failed"], second["rate"], second["not_tried"]) == (None, None, "none is known")


# ---------------------------------------------------------------- CASES B7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failed": 10, "total": 10, "missing": 5, "ends": {Outcome.FAILED: 10}}, "always fails: 10 of 10"),
        ({"failed": 1, "total": 1, "missing": 5, "ends": {Outcome.FAILED: 1}}, "failed in its only attempt"),
        ({"failed": 0, "total": 12, "missing": 5, "ends": {}}, "never failed in 12 attempts"),
    ],
)
def test_what_does_not_go_back_and_forth_has_no_cause(changes, said):
    (line,) = sentences(finding(**changes))
    assert line.startswith(said)


def test_a_test_that_always_fails_is_told_so_by_a_diagnosis():
    every = [result(condition, 10, message="boom") for condition in Condition]
    said = conclusions(diagnosis(*every))
    assert said[0].startswith("always fails: 70 of 70")
    assert said[1].strip() == "message: boom"
    assert not any("random" in line for line in said)


def test_one_attempt_says_nothing_of_always():
    (line, *_) = conclusions(diagnosis(result(Condition.ALONE, 1, 1)))
    assert line.startswith("failed in its only attempt")
    assert line.endswith("try a larger --runs")


def test_a_test_that_fails_alone_only_needs_something_of_the_others():
    alone = result(Condition.ALONE, 10)
    (line, *_) = conclusions(diagnosis(alone, result(Condition.NEIGHBOURS, 2)))
    assert line.startswith("fails alone each time (10 of 10: 10 failed), and passes with neighbours (8 of 10)")


def test_the_runner_up_is_shown():
    """CASES B8."""
    first, second = figure(Factor.THROTTLED, 0.25, 0.01), cause()
    both = finding(first, second)
    (row,) = raw_rows(flaky_table([(FlakyTest(test_id=both.test_id, attempts=attempts("F .")), both)]))
    assert (row["factor"], row["runner_up"]) == ("throttled", cause_text(second))
    (row,) = raw_rows(flaky_table([(FlakyTest(test_id=both.test_id, attempts=attempts("F .")), finding(first))]))
    assert row["runner_up"] == ""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.evidence import Attestation
from orchestrator.model.outcomes import Outcome
from orchestrator.model.usage import Sample
from orchestrator.reports import run_summary as d
from tests.unit.reports.conftest import attempt, log, of, result, told, usage, violation


def totals_of(*results):
    return told(d.ResultTotals(), *results)


def test_every_outcome_is_counted():
    found = totals_of(*(result(f"{n}.py", outcome) for n, outcome in enumerate(Outcome)), result("p.py"))
    assert found.counts == {"tests": 9, "flaky": 0, "violations": 0, **dict.fromkeys(Outcome, 1), "passed": 2}
    assert (found.failed_tests, found.successful_tests) == (6, 3)


def test_an_empty_run_has_all_its_counts():
    assert totals_of().counts == {"tests": 0, "flaky": 0, "violations": 0, **dict.fromkeys(Outcome, 0)}


def test_a_flaky_test_is_counted_and_listed_unless_that_is_a_failure():
    attempts = attempt("a.py", "failed"), attempt("a.py", attempt=2)
    found = totals_of(of(*attempts, flaky=True), of(*attempts, flaky=True, outcome="failed"))
    assert (found.flaky_tests, len(found.flaky), len(found.failures)) == (2, 1, 1)
    assert (found.passed_kinds, found.failed_kinds) == ({"flaky": 1}, {"flaky": 1})


def test_the_violations_that_count_are_those_of_the_deciding_attempt():
    first = attempt("a.py", "failed", violations=(violation(),))
    found = totals_of(of(first, attempt("a.py", attempt=2, violations=(violation("time-near"),)), flaky=True))
    assert found.violations == {"time-near": 1}


def test_notices_are_counted_by_kind_and_the_first_of_each_kept():
    advice, growth = (violation(kind, kind, "notice") for kind in ("oversized", "memory-growth"))
    found = totals_of(result("a.py", violations=(advice,)), result("b.py", violations=(growth, advice)))
    assert [(kind, n.times, str(n.result.test.id)) for kind, n in found.notices.items()] == [
        ("oversized", 2, "a.py"),
        ("memory-growth", 1, "b.py"),
    ]
    assert (found.serious_violations, found.listed_violations, found.most_severe) == (0, [], None)


def test_of_a_tests_broken_budgets_the_gravest_is_first():
    warning, error = violation("time-near", severity="warning"), violation(severity="error")
    found = totals_of(result("a.py", violations=(warning,)), result("b.py", violations=(warning, error)))
    assert [(str(r.test.id), v.kind.value) for r, v in found.listed_violations] == [
        ("a.py", "time-near"),
        ("b.py", "child-oom"),
        ("b.py", "time-near"),
    ]
    assert str(found.most_severe[1].test.id) == "b.py"


FIGURE = st.none() | st.integers(0, 5)


@given(st.lists(st.tuples(FIGURE, FIGURE, st.integers(0, 5)), max_size=30))
def test_the_worst_are_those_that_a_look_at_all_would_find(figures):
    results = [result(f"{n}.py", usage=usage(p, c), seconds=float(s)) for n, (p, c, s) in enumerate(figures)]
    found = totals_of(*results)
    for name, figure_of in d.FIGURES:
        known = [r for r in results if figure_of(r.final) is not None]
        first = max(known, key=lambda r, figure_of=figure_of: figure_of(r.final), default=None)
        assert (first is None) == (name not in found.worst)
        assert first is None or found.worst[name][1].test.id == first.test.id
    measured = [r for r in results if r.final.evidence.usage.memory_peak_bytes is not None]
    measured.sort(key=lambda r: (-r.final.evidence.usage.memory_peak_bytes, str(r.test.id)))
    assert [r.test.id for r in found.most_memory.results] == [r.test.id for r in measured[: d.MOST_MEMORY]]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 12))
def test_the_few_that_come_first_are_in_order_and_equal_ones_as_they_came(keys, limit):
    worst = d.TopResults(limit)
    for number, key in enumerate(keys):
        worst.add(key, result(f"{number}.py"))
    expected = sorted(enumerate(keys), key=lambda pair: pair[1])[:limit]
    assert [str(r.test.id) for r in worst.results] == [f"{number}.py" for number, _ in expected]


@pytest.mark.parametrize("outcome", ["passed", "failed", "skipped"])
def test_lists_are_bounded_and_so_is_the_output_in_them(outcome):
    printed = log(b"x" * 1000)
    found = totals_of(*(result(f"{n}.py", outcome, stdout=printed, stderr=printed) for n in range(600)))
    kept = found.failures if outcome == "failed" else found.successful
    assert len(kept) == (d.MAX_ROWS if outcome == "failed" else d.MAX_LISTED)
    assert [str(r.test.id) for r in kept[:2]] == ["0.py", "1.py"]
    tails = [bool(r.final.evidence.stdout.tail or r.final.evidence.stderr.tail) for r in kept]
    assert tails == [True] * d.MAX_OUTPUTS + [False] * (len(kept) - d.MAX_OUTPUTS)
    assert {r.final.evidence.stdout.total_bytes for r in kept} == {1000}, "how much there was is still known"


def test_no_time_series_is_kept():
    one = attempt("a.py", "failed", violations=(violation(),))
    series = tuple(Sample(at_seconds=random.random()) for _ in range(600))
    evidence = d.replace(one.evidence, samples=series)
    found = totals_of(of(d.replace(one, evidence=evidence)))
    every = [*found.failures, found.listed_violations[0][0], found.most_severe[1], *found.most_memory.results]
    every += [kept for _, kept in found.worst.values()]
    assert len(every) == 7
    assert {r.final.evidence.samples for r in every} == {()}


def test_the_share_of_memory_is_that_of_the_limit_that_was_enforced():
    """A forked test may take the profile's limit and up to 4 MiB more beyond what stood before it."""
    floor, limit = 50 << 20, attempt().assignment.profile.limits.memory_bytes
    seen = attempt(usage=usage(peak=limit + (1 << 20), memory_floor_bytes=floor))
    assert d.memory_ratio(seen) > 1  # nothing was attested
    attested = Attestation(
        container_name="c", container_id="1", image_id="i", effective_memory_bytes=floor + limit + (4 << 20)
    )
    enforced = replace(seen, evidence=replace(seen.evidence, attestation=attested))
    assert enforced.memory_limit_bytes == limit + (4 << 20)
    assert d.memory_ratio(enforced) < 1

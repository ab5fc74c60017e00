"""Statistical tests agree with published values, with counting by hand, and with each other."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from orchestrator.analysis import statistics
from orchestrator.analysis.statistics import (
    fisher,
    fisher_minimum,
    fisher_one_sided,
    holm,
    mann_whitney,
    rank_sum_tail,
    stratified_fisher,
    tarone_factor,
    van_elteren,
    wilson_interval,
)


def test_fishers_tea_tasting():
    """Fisher 1935: 3 of 4 cups right, 8 cups: one-sided 17/70, two-sided 34/70."""
    assert fisher_one_sided(3, 4, 4, 8) == pytest.approx(17 / 70)
    assert fisher(3, 4, 4, 8) == pytest.approx(34 / 70)


def test_fisher_as_r_has_it():
    """R: fisher.test(matrix(c(3, 1, 2, 10), 2))$p.value, and Agresti's (1, 9, 11, 3)."""
    assert fisher(3, 5, 4, 16) == pytest.approx(0.06318681, abs=1e-7)
    assert fisher(1, 12, 10, 24) == pytest.approx(0.002759456, abs=1e-8)


def test_fisher_is_the_share_of_all_orders():
    """Counted: of all ways to choose which attempts failed, those whose table is no likelier."""
    total, failed, with_ = 9, 4, 3
    tables = [sum(at < with_ for at in way) for way in itertools.combinations(range(total), failed)]
    for both in range(failed):
        share = sum(tables.count(k) for k in set(tables) if tables.count(k) <= tables.count(both)) / len(tables)
        assert fisher(both, with_, failed, total) == pytest.approx(share)
        assert fisher_one_sided(both, with_, failed, total) == pytest.approx(
            sum(k >= both for k in tables) / len(tables)
        )
    assert fisher_minimum(with_, failed, total) == pytest.approx(
        min(fisher(k, with_, failed, total) for k in range(4))
    )


def test_ranks_counted_exactly():
    assert mann_whitney([1, 2, 3], [4, 5, 6, 7]) == pytest.approx(2 / math.comb(7, 3))
    assert mann_whitney([4, 5, 6, 7], [1, 2, 3]) == pytest.approx(2 / math.comb(7, 3))
    assert mann_whitney([1, 1], [1, 1, 1]) == mann_whitney([], [1.0]) == 1.0


def test_the_normal_approximation_is_near_the_exact_count():
    """Sizes just below and above the bound of exact counting, by counting random orders."""
    source = random.Random(3)
    many, few = [source.gauss(0, 1) for _ in range(40)], [source.gauss(0.9, 1) for _ in range(12)]
    seen = mann_whitney(few, many)
    every = [*few, *many]

    def distance(order):
        ranks = sorted(range(len(order)), key=order.__getitem__)
        return abs(sum(rank + 1 for rank, at in enumerate(ranks) if at < 12) - 12 * 53 / 2)

    there, extreme = distance(every), 0
    for _ in range(4000):
        source.shuffle(every)
        extreme += distance(every) >= there
    assert seen == pytest.approx(extreme / 4000, abs=0.01)


def test_one_stratum_is_fishers_test():
    assert stratified_fisher([(16, 5, 4)], 3) == pytest.approx((fisher(3, 5, 4, 16), fisher_minimum(5, 4, 16)))
    assert stratified_fisher([(9, 9, 4), (5, 2, 0)], 4) == (1.0, 1.0), "nothing to compare in any"


def test_strata_are_counted_exactly():
    """All ways to choose the failures of each stratum, by hand."""
    strata = [(5, 2, 2), (6, 3, 2)]
    ways = [
        sum(at < with_ for (_, with_, _), way in zip(strata, ways, strict=True) for at in way)
        for ways in itertools.product(*(itertools.combinations(range(n), failed) for n, _, failed in strata))
    ]
    for both in range(5):
        share = sum(ways.count(k) for k in set(ways) if ways.count(k) <= ways.count(both)) / len(ways)
        assert stratified_fisher(strata, both)[0] == pytest.approx(share)


def test_many_strata_by_the_normal_distribution_are_near_the_exact_count(monkeypatch):
    strata = [(6, 3, 2)] * 18
    exact = stratified_fisher(strata, 26)[0]
    monkeypatch.setattr(statistics, "_EXACT_STRATA", 0)
    assert stratified_fisher(strata, 26)[0] == pytest.approx(exact, rel=0.15)
    assert 0.001 < exact < 0.02


def test_ranks_within_strata_see_no_difference_between_them():
    """Each night has its own level, failures are on nights of a high one: within nights nothing differs."""
    source = random.Random(8)
    strata = []
    for night in range(10):
        values = [10 * night + source.random() for _ in range(10)]
        strata.append((values[: night // 2], values[night // 2 :]))
    assert van_elteren(strata) > 0.05
    pooled = [v for bad, _ in strata for v in bad], [v for _, good in strata for v in good]
    assert mann_whitney(*pooled) < 0.01
    shifted = [([v + 1 for v in bad], good) for bad, good in strata]
    assert van_elteren(shifted) < 1e-6
    assert van_elteren([([], [1.0])]) == 1.0


def test_wilson_as_published():
    """Newcombe 1998, table I, method 3 (81 of 263, 15 of 148, 0 of 20, 1 of 29)."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(7, 7)[1] == 1.0


def test_tests_that_can_never_be_significant_do_not_count():
    assert tarone_factor([1e-6] * 3 + [0.2] * 1000, 0.01) == 3
    assert tarone_factor([], 0.01) == tarone_factor([0.5] * 50, 0.01) == 1
    # Tarone's K: the least for which at most K tests can pass at level / K; 0.004 cannot at 0.01 / 3
    assert tarone_factor([0.0001, 0.0001, 0.004, 0.004], 0.01) == 3


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_the_rank_test_is_exact():
    chance = random.Random(2)
    for _ in range(20):
        old, new = [chance.randrange(6) for _ in range(6)], [chance.randrange(2, 8) for _ in range(3)]
        every = old + new
        ranks = [sum(b < a for b in every) + sum(b == a for b in every) / 2 for a in every]
        total = sum(ranks[6:])
        choices = [sum(chosen) >= total - 1e-9 for chosen in itertools.combinations(ranks, 3)]
        assert rank_sum_tail(old, new) == pytest.approx(sum(choices) / len(choices))

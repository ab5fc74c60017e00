"""Gates over several runs, on figures written down by hand."""

import itertools
import math
import random

import pytest

from orchestrator.model_reports import Judgement
from orchestrator.verdict.gates import carried_forward, compare, estimate, noise_floor, rank_chance

OLD = [100 + (7 * number) % 5 for number in range(30)]  # 100 to 104


def judged(new, old=OLD, *, tolerance=0.1, minimum=1.0):
    return compare(old, new, tolerance=tolerance, minimum=minimum)


def test_growth_is_seen_from_three_runs_on():
    assert judged([117]).judgement is Judgement.SUSPECTED
    two = judged([117, 118])
    assert (two.judgement, two.missing_runs) == (Judgement.SUSPECTED, 1)
    three = judged([117, 118, 119])
    assert three.judgement is Judgement.GROWN
    assert three.growth == pytest.approx(0.157, abs=0.01)
    assert (three.before, three.now, three.new_runs, three.old_runs) == (102, 118, 3, 30)
    assert three.chance == pytest.approx(1 / math.comb(33, 3))


def test_the_tolerance_is_for_the_growth():
    assert judged([110, 111, 110]).judgement is Judgement.UNCHANGED
    assert judged([117, 118, 119], tolerance=0.2).judgement is Judgement.UNCHANGED
    assert judged([90, 80, 70]).judgement is Judgement.UNCHANGED


def test_growth_that_is_not_worth_a_word():
    assert judged([130, 131, 132], minimum=50).judgement is Judgement.UNCHANGED


def test_one_of_the_new_runs_may_be_anything():
    assert judged([102, 101, 900]).judgement is Judgement.UNCHANGED
    assert judged([118, 119, 118, 117, 104]).judgement is Judgement.GROWN


def test_too_few_runs():
    few = judged([200, 200, 200], OLD[:12])
    assert (few.judgement, few.missing_runs) == (Judgement.TOO_FEW, 8)
    assert judged([], OLD).judgement is Judgement.TOO_FEW
    nothing = judged([200, 200, 200], [])
    assert (nothing.judgement, nothing.before, nothing.growth) == (Judgement.TOO_FEW, None, None)
    assert judged([102, 102], OLD).judgement is Judgement.TOO_FEW


def test_what_the_history_has_shown_before_is_no_growth():
    moody = [100 if number % 10 < 7 else 140 for number in range(50)]
    assert judged([140, 140, 140], moody).judgement is Judgement.UNCHANGED


def test_a_drift_goes_on():
    growing = [100 * 1.005**-age for age in range(50)]
    assert judged([100 * 1.005**n for n in (3, 2, 1)], growing, tolerance=0.05).judgement is Judgement.UNCHANGED
    assert judged([120 * 1.005**n for n in (3, 2, 1)], growing, tolerance=0.05).judgement is Judgement.GROWN
    assert carried_forward(growing, 3) == pytest.approx([100 * 1.005**2] * 50, rel=1e-6)
    assert carried_forward(growing[::-1], 3) == pytest.approx(growing[::-1])  # what shrinks is not carried on


def test_zeros_are_figures_too():
    assert judged([0.0, 0.0, 0.0], [0.0] * 30).judgement is Judgement.UNCHANGED
    assert judged([5.0, 5.0, 5.0], [0.0] * 15 + [1.0] * 15).judgement is Judgement.GROWN


def test_only_the_newest_runs_are_looked_at():
    assert judged([118] * 5 + [1] * 20, OLD + [1000] * 25).new_runs == 5
    assert judged([118] * 5, OLD * 3).old_runs == 50


def test_the_estimate_is_the_median_of_all_ratios():
    assert estimate([1, 2], [2, 4, 8]) == pytest.approx(2.0)  # of 1 2 2 4 4 8: 3, less one


def test_the_rank_test_is_exact():
    chance = random.Random(2)
    for _ in range(20):
        old, new = [chance.randrange(6) for _ in range(6)], [chance.randrange(2, 8) for _ in range(3)]
        every = old + new
        ranks = [sum(b < a for b in every) + sum(b == a for b in every) / 2 for a in every]
        total = sum(ranks[6:])
        choices = [sum(chosen) >= total - 1e-9 for chosen in itertools.combinations(ranks, 3)]
        assert rank_chance(old, new) == pytest.approx(sum(choices) / len(choices))


def test_runs_that_resemble_each_other_have_a_higher_floor():
    chance = random.Random(4)
    independent = [math.exp(chance.gauss(0, 0.05)) for _ in range(50)]
    alike = sorted(independent[:25]) + sorted(independent[25:], reverse=True)
    assert noise_floor(independent, 5) == pytest.approx(0.085, abs=0.03)
    assert noise_floor(alike, 5) > 2 * noise_floor(independent, 5)
    assert noise_floor(independent, 3) > noise_floor(independent, 5)
    assert noise_floor([7.0] * 30, 5) == 0.0

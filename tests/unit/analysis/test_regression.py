"""Regressions are found in handmade and simulated histories, and noise is not."""

import math
import random

import pytest

from orchestrator.analysis.likelihood import autocorrelation, kernel_width, likelihood_ratio
from orchestrator.analysis.regression import (
    compare,
    estimate_growth,
    extrapolate_drift,
    noise_floor,
    on_one_machine,
)
from orchestrator.model.regression import Judgement

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
    assert three.chance is not None
    assert three.chance < 1e-6


@pytest.mark.parametrize("factor", [1.2, 1.5, 1.9, 2.3, 2.7, 4, 30, 1000])
@pytest.mark.parametrize("noise", [0, 0.001, 0.02, 0.05])
def test_growth_of_any_size_is_seen(factor, noise):
    chance = random.Random(8)
    old, new = ([100 * math.exp(chance.gauss(0, noise)) for _ in range(number)] for number in (40, 5))
    assert judged([value * factor for value in new], old).judgement is Judgement.GROWN
    assert judged(new, old).judgement is Judgement.UNCHANGED


def test_growth_below_the_tolerance_is_not_reported():
    assert judged([110, 111, 110]).judgement is Judgement.UNCHANGED
    assert judged([117, 118, 119], tolerance=0.2).judgement is Judgement.UNCHANGED
    assert judged([90, 80, 70]).judgement is Judgement.UNCHANGED


def test_growth_below_the_minimum_is_not_reported():
    assert judged([130, 131, 132], minimum=50).judgement is Judgement.UNCHANGED


def test_one_outlier_among_the_new_runs_changes_nothing():
    assert judged([102, 101, 900]).judgement is Judgement.UNCHANGED
    assert judged([118, 119, 118, 117, 104]).judgement is Judgement.GROWN


def test_too_few_runs():
    few = judged([200, 200, 200], OLD[:12])
    assert (few.judgement, few.missing_runs) == (Judgement.TOO_FEW, 8)
    assert judged([], OLD).judgement is Judgement.TOO_FEW
    nothing = judged([200, 200, 200], [])
    assert (nothing.judgement, nothing.before, nothing.growth) == (Judgement.TOO_FEW, None, None)
    assert judged([102, 102], OLD).judgement is Judgement.TOO_FEW


def test_a_level_that_the_history_has_shown_before_is_no_growth():
    moody = [100 if number % 10 < 7 else 140 for number in range(50)]
    assert judged([140, 140, 140], moody).judgement is Judgement.UNCHANGED


def test_growth_that_continues_the_drift_of_the_history_is_not_reported():
    growing = [100 * 1.005**-age for age in range(50)]
    assert judged([100 * 1.005**n for n in (3, 2, 1)], growing, tolerance=0.05).judgement is Judgement.UNCHANGED
    assert judged([120 * 1.005**n for n in (3, 2, 1)], growing, tolerance=0.05).judgement is Judgement.GROWN
    assert extrapolate_drift(growing, 3) == pytest.approx([100 * 1.005**2] * 50, rel=1e-6)
    assert extrapolate_drift(growing[::-1], 3) == pytest.approx(growing[::-1])  # what shrinks is not carried on


def test_zeros_are_compared_too():
    assert judged([0.0, 0.0, 0.0], [0.0] * 30).judgement is Judgement.UNCHANGED
    assert judged([5.0, 5.0, 5.0], [0.0] * 15 + [1.0] * 15).judgement is Judgement.GROWN


def test_only_the_newest_runs_are_looked_at():
    assert judged([118] * 5 + [1] * 20, OLD + [1000] * 25).new_runs == 5
    assert judged([118] * 5, OLD * 3).old_runs == 50


def test_the_estimate_is_the_median_of_all_ratios():
    assert estimate_growth([1, 2], [2, 4, 8]) == pytest.approx(2.0)  # of 1 2 2 4 4 8: 3, less one


def test_growth_is_seen_behind_two_modes_and_outliers():
    chance = random.Random(7)
    moody = [chance.gauss(100, 1) * (1.4 if number % 10 in (2, 5, 8) else 1.0) for number in range(50)]
    now = [chance.gauss(100, 1) * factor for factor in (1.0, 1.4, 1.0, 1.0, 1.4)]
    assert judged(now, moody).judgement is Judgement.UNCHANGED
    found = judged([value * 1.15 for value in now], moody)
    assert found.judgement is Judgement.GROWN
    assert found.growth == pytest.approx(0.15, abs=0.03)
    wild = [chance.gauss(100, 2) * (3.0 if number % 20 == 7 else 1.0) for number in range(50)]
    assert judged([115, 116, 330, 114, 117], wild).judgement is Judgement.GROWN
    assert judged([101, 99, 330, 310, 100], wild).judgement is Judgement.UNCHANGED


def test_machines_are_compared_with_themselves():
    chance = random.Random(3)
    at = ["slow" if number // 5 % 2 else "fast" for number in range(50)]
    old = [chance.gauss(130 if machine == "slow" else 100, 1) for machine in at]
    slow = [chance.gauss(130, 1) for _ in range(4)]

    def told(new, new_at):
        return compare(old, new, tolerance=0.1, minimum=1.0, machines=(at, new_at))

    assert told(slow, ["slow"] * 4).judgement is Judgement.UNCHANGED
    assert told(slow, ["fast"] * 4).judgement is Judgement.GROWN
    grown = told([value * 1.15 for value in slow], ["slow"] * 4)
    assert (grown.judgement, grown.old_runs) == (Judgement.GROWN, 50)
    assert grown.before == pytest.approx(130, abs=2)
    mixed = told([150, 115, 149, 114], ["slow", "fast", "slow", "fast"])
    assert mixed.judgement is Judgement.GROWN
    assert told(slow, ["new"] * 4).judgement is Judgement.TOO_FEW
    assert told([*slow, 900], ["slow"] * 4 + ["new"]).new_runs == 4


def test_one_machine_changes_nothing():
    assert on_one_machine([1, 2], [3], (["a", "a"], ["a"])) == ([1, 2], [3])
    assert on_one_machine([], [3], ([], ["a"])) == ([], [3])
    assert on_one_machine([1, 2], [3], (["a", "a"], ["b"])) == ([], [])


def test_the_likelihood_ratio_equals_a_plain_computation():
    """Against plain computation for one shift: kernels of Student's t with 3 degrees of freedom."""
    chance = random.Random(1)
    old, new = [chance.gauss(0, 0.05) for _ in range(30)], [chance.gauss(0.14, 0.05) for _ in range(4)]
    assert autocorrelation(old) == 0.0
    middle = sorted(old)[14] / 2 + sorted(old)[15] / 2
    known = tuple(value - middle for value in old)
    width = kernel_width(known)

    def density(at):
        kernels = (math.gamma(2) / (math.sqrt(3 * math.pi) * math.gamma(1.5)) * (1 + u * u / 3) ** -2
                   for u in ((at - value) / width for value in known))  # fmt: skip
        return sum(kernels) / (len(known) * width) + 0.002

    def weight(shift):
        return sum(math.log(density(v - middle - shift) / density(v - middle)) for v in new)

    step = math.log1p(0.1)
    shifts = [step * part / 4 for part in range(1, 9)] + [step * 2 + 0.06 * part for part in range(1, 14)]
    above = [math.exp(weight(shift)) for shift in shifts if shift >= step]
    found = likelihood_ratio(old, new, tolerance=0.1)
    assert found.log_ratio == pytest.approx(math.log(sum(above) / len(above)))
    assert found.growth == pytest.approx(math.expm1(max(shifts, key=weight)))


def test_the_kernel_width_exceeds_steps_and_ignores_an_outlier():
    chance = random.Random(2)
    steps = tuple(round(chance.gauss(0, 0.03) / 0.04) * 0.04 for _ in range(50))
    assert kernel_width(steps) >= 0.02
    near = tuple(chance.gauss(0, 0.02) for _ in range(49))
    assert kernel_width((*near, 2.0)) == pytest.approx(kernel_width(near), rel=0.5)
    assert kernel_width((0.0,) * 30) == pytest.approx(0.004)


def test_correlated_runs_have_a_higher_noise_floor():
    chance = random.Random(4)
    independent = [math.exp(chance.gauss(0, 0.05)) for _ in range(50)]
    alike = sorted(independent[:25]) + sorted(independent[25:], reverse=True)
    assert noise_floor(independent, 5) == pytest.approx(0.085, abs=0.03)
    assert noise_floor(alike, 5) > 2 * noise_floor(independent, 5)
    assert noise_floor(independent, 3) > noise_floor(independent, 5)
    assert noise_floor([7.0] * 30, 5) == 0.0

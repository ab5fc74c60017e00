import pytest

from bench.gates import SHAPES, simulate


@pytest.mark.parametrize("shape", SHAPES)
def test_unchanged_tests_are_left_alone(shape):
    found = simulate(shape, 0.05, growth=0.0, tolerance=0.1, tests=150, seed=3)
    assert found.comparisons >= 440  # a machine of which too little is known makes none
    assert found.flagged <= 2  # fewer than one is expected; one test makes up to three comparisons


@pytest.mark.parametrize("shape", ["lognormal", "heavy-tailed", "drift", "quantised"])
def test_growth_of_15_percent_is_caught_within_five_runs(shape):
    found = simulate(shape, 0.02, growth=0.15, tolerance=0.1, tests=60, seed=3)
    assert found.caught_by[:2] == [0, 0]
    assert found.caught_by[4] >= 58

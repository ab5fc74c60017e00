from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import figures


@given(st.lists(st.integers(), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_values_with_enough_below_it(values, ratio):
    ordered = sorted(values)
    found = figures.percentile(ordered, ratio)
    assert found in values
    assert sum(v <= found for v in ordered) >= ratio * len(ordered) - 1e-6


def test_percentiles_are_exact_at_ranks():
    ordered = list(range(1, 21))
    assert [figures.percentile(ordered, r) for r in (0.05, 0.5, 0.95, 0.99, 1.0)] == [1, 10, 19, 20, 20]
    with pytest.raises(ValueError, match="nothing"):
        figures.percentile([], 0.5)


def test_known_values_are_not_copied_if_none_is_missing():
    complete = [1, 2, 3]
    assert figures.known_values(complete) is complete
    assert figures.known_values([None, 0, None, 2.5]) == [0, 2.5]


def test_the_median_ignores_missing_values():
    assert figures.median_of_known([3.0, None, 1.0, 2.0, None]) == 2.0
    assert figures.median_of_known(iter([1, 4])) == 2.5
    assert figures.median_of_known([None]) is None


@given(st.integers(0, 500), st.integers(1, 60))
def test_equal_parts_cover_all_values_once_and_differ_by_at_most_one(length, number):
    parts = figures.equal_parts(length, number)
    assert [place for part in parts for place in range(length)[part]] == list(range(length))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=60))
def test_maxima_of_parts_keep_order_and_maximum(values):
    parts = figures.maxima_of_parts(values, 12)
    assert len(parts) == min(12, len(values))
    assert max(parts) == max(values)
    if len(values) <= 12:
        assert parts == tuple(values)


def test_no_values_have_no_parts():
    assert figures.maxima_of_parts([], 12) == ()

"""Percentiles of sketches are those of the buckets of all values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.database.rollups.quantile_sketch import (
    SortedKeys,
    bucket_number,
    bucket_value,
    count_values,
    sketch,
    sketch_keys,
    value_keys,
)
from orchestrator.database.rollups.statistics import percentile

VALUE = st.floats(min_value=1e-6, max_value=1e15)
VALUES = st.lists(VALUE | st.just(0.0), max_size=40)


@given(VALUE)
def test_a_value_comes_back_within_a_twentieth_of_a_percent(value):
    assert bucket_value(bucket_number(value)) == pytest.approx(value, rel=0.0005)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_sketches_together_hold_all_values(groups):
    everything = sorted(bucket_number(value) for group in groups for value in group)
    found = sketch_keys([sketch(group) for group in groups])
    assert sorted(key >> 16 for key in found for _ in range(key & 0xFFFF)) == everything


def test_the_order_of_values_does_not_matter_and_many_take_little_room():
    values = [math.sin(n) + 2 for n in range(100_000)]
    assert sketch(values) == sketch(values[::-1])
    assert len(sketch(values)) < 6_000
    assert count_values(sketch_keys([sketch([0.0] * 70_000)])) == 70_000


def test_half_a_sketch_is_refused():
    with pytest.raises(ValueError, match="cut short"):
        sketch_keys([b"\1\0"])


@given(st.lists(VALUES, min_size=1, max_size=6), VALUES, st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]))
def test_percentiles_of_keys_are_those_of_the_buckets(groups, loose, ratio):
    buckets = sorted(bucket_number(value) for group in (*groups, loose) for value in group)
    together = sketch_keys([sketch(group) for group in groups])
    together.extend(value_keys(loose))
    if buckets:
        ordered = SortedKeys(together)
        assert ordered.count == len(buckets)
        assert ordered.percentile(ratio) == bucket_value(percentile(buckets, ratio))


def test_percentiles_of_more_values_than_a_count_holds():
    together = sketch_keys([sketch([0.0] * 70_000 + [5.0] * 200_000 + [9.0] * 2_000)])
    ordered = SortedKeys(together)
    assert ordered.count == 272_000
    assert ordered.percentile(0.25) == 0.0
    assert ordered.percentile(0.5) == pytest.approx(5.0, rel=0.0005)
    assert ordered.percentile(0.999) == pytest.approx(9.0, rel=0.0005)

"""How a test's samples and history are made small, and that what matters of them stays."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.nightly import Series
from orchestrator.reports.html.details import columns, encoded_series, significant, thinned


def series(times, *, memory_bytes=None):
    unknown = [None] * len(times)
    cpu_seconds = [at * 0.01 for at in range(len(times))]
    return Series(at_seconds=times, memory_bytes=memory_bytes or unknown, cpu_seconds=cpu_seconds, pids=unknown)


DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"


def values_of(packed):
    """As report.js reads it."""
    top, width, text = packed
    parts = [text[at : at + width] for at in range(0, len(text), width)]
    return [None if part[0] == "." else number(part) / (64**width - 1) * top for part in parts]


def number(digits):
    return sum(DIGITS.index(c) * 64**k for k, c in enumerate(reversed(digits)))


@given(
    values=st.lists(st.none() | st.floats(0, 1e12), min_size=1, max_size=50).filter(any),
    width=st.sampled_from([1, 2]),
)
def test_a_course_is_read_back_within_its_step(values, width):
    top = max(v for v in values if v is not None)
    step = top / (64**width - 1)
    for value, found in zip(values, values_of(encoded_series(values, width)), strict=True):
        assert (value is None) is (found is None)
        assert value is None or abs(value - found) <= step / 2 + top * 1e-3


def test_a_top_that_is_known_is_not_told():
    assert encoded_series([0.0, 5.0, 20.0], 1, top=10.0) == [None, 1, "Ag-"]


def test_a_course_of_nothing_is_empty():
    assert encoded_series([None, None], 2) == []
    assert encoded_series([], 2) == []


@given(
    memory=st.lists(st.none() | st.integers(0, 2**40), min_size=2, max_size=200),
    count=st.integers(2, 60),
)
def test_thinning_keeps_the_highest_the_first_and_the_last(memory, count):
    samples = series([at * 0.1 for at in range(len(memory))], memory_bytes=memory)
    kept = thinned(samples, count)
    assert 2 <= len(kept) <= count
    known = [m for m in memory if m is not None]
    seen = [value for value in kept.memory_bytes if value is not None]
    assert max(seen, default=None) == max(known, default=None)
    for end in (0, -1):
        assert kept.at_seconds[end] == samples.at_seconds[end]
        assert kept.cpu_seconds[end] == samples.cpu_seconds[end]
    assert kept.memory_bytes[0] == samples.memory_bytes[0]
    distances = {round(later - earlier, 6) for earlier, later in itertools.pairwise(kept.at_seconds)}
    assert max(distances) - min(distances) < 1e-5
    assert set(kept.pids) == {None}


@given(gaps=st.lists(st.floats(0, 9), min_size=2, max_size=60), count=st.integers(2, 80))
def test_a_point_stands_for_the_time_since_the_one_before_it(gaps, count):
    times = list(itertools.accumulate(gaps))
    samples = series(times, memory_bytes=[at * 7 % 5 for at in range(len(times))])
    kept = thinned(samples, count)
    since, expected = 1, [(samples.memory_bytes[0], samples.cpu_seconds[0])]
    for moment in kept.at_seconds[1:]:
        here = [place for place in range(since, len(times)) if times[place] <= moment]
        since += len(here)
        highest = max((samples.memory_bytes[place] for place in here), default=expected[-1][0])
        expected.append((highest, samples.cpu_seconds[here[-1]] if here else expected[-1][1]))
    assert list(zip(kept.memory_bytes, kept.cpu_seconds, strict=True)) == expected


def test_thinning_to_less_than_two_leaves_nothing():
    assert len(thinned(series([0.0]), 10)) == 0
    assert len(thinned(series([0.0, 1.0]), 0)) == 0


def test_columns_hold_what_each_entry_had():
    assert columns([{"a": 1}, {"b": 2, "a": 3}]) == {"a": [1, 3], "b": [None, 2]}


def test_significant_digits():
    assert [significant(v, 3) for v in (0.0, 1234.5, 0.0012345, 2.0)] == [0, 1230, 0.00123, 2]

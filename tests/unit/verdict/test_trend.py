from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.verdict.trend import MAX_POINTS, MIN_POINTS, steady_growth

MINIMUM = 20.0
Points = list[tuple[float, float]]


def sampled(seconds: float, value_at: object) -> Points:
    """Return points at the sampler's times: every 0.1 s at first, then at growing intervals of up to a second."""
    points, at = [], 0.1
    while at <= seconds:
        points.append((at, float(value_at(at))))  # type: ignore[operator]
        at += min(max(at / 8, 0.1), 1.0)
    return points


patient = settings(deadline=None, max_examples=60)
durations = st.floats(1.5, 300)
levels = st.integers(0, 1000)


@patient
@given(durations, levels, st.floats(1.2, 50))
def test_a_steady_leak_is_found_whatever_its_level(seconds: float, level: int, times: float) -> None:
    points = sampled(seconds, lambda at: level + 2 * times * MINIMUM * at / points_end(seconds))
    trend = steady_growth(points, minimum=MINIMUM)
    assert trend is not None
    assert trend.growth >= MINIMUM
    assert trend.last > trend.first >= level
    assert trend.per_second == pytest.approx(2 * times * MINIMUM / points_end(seconds))


def points_end(seconds: float) -> float:
    """Return 0.8 of the time of the last point."""
    return sampled(seconds, lambda _: 0)[-1][0] * 0.8


@patient
@given(durations, levels, st.integers(0, 100_000), st.floats(0, 1))
def test_what_is_opened_at_once_and_kept_is_no_leak(seconds: float, level: int, more: int, when: float) -> None:
    points = sampled(seconds, lambda at: level + (more if at >= when * seconds else 0))
    assert steady_growth(points, minimum=MINIMUM) is None


@patient
@given(durations, levels, st.integers(0, 100_000), st.floats(0, 1), st.floats(0.3, 0.7))
def test_one_jump_is_no_leak_even_if_a_sample_falls_into_it(
    seconds: float, level: int, more: int, when: float, part: float
) -> None:
    points = sampled(seconds, lambda at: level + (more if at >= when * seconds else 0))
    jump = next((i for i, (_, value) in enumerate(points) if value != level), None)
    if jump is not None:
        points[jump] = (points[jump][0], level + part * more)
    assert steady_growth(points, minimum=MINIMUM) is None


@patient
@given(durations, levels, st.data())
def test_noise_below_the_floor_is_no_leak(seconds: float, level: int, data: st.DataObject) -> None:
    noise = st.integers(0, int(MINIMUM) - 1)
    points = sampled(seconds, lambda _: level + data.draw(noise))
    assert steady_growth(points, minimum=MINIMUM) is None


@patient
@given(durations, levels, st.integers(0, 10_000))
def test_a_start_that_grows_and_then_stands_is_no_leak(seconds: float, level: int, more: int) -> None:
    """An import of hundreds of modules, a pool that fills: over before half of the test's time."""
    points = sampled(seconds, lambda at: level + more * min(1.0, at / (0.45 * seconds)))
    assert steady_growth(points, minimum=MINIMUM) is None


@patient
@given(durations, levels, st.integers(21, 10_000))
def test_what_is_given_back_is_no_leak(seconds: float, level: int, more: int) -> None:
    end = sampled(seconds, lambda _: 0)[-1][0]
    points = sampled(seconds, lambda at: level + (more * at / seconds if at < end else 0))
    assert steady_growth(points, minimum=MINIMUM) is None


@patient
@given(durations, levels, st.integers(0, 10_000))
def test_what_shrinks_is_no_leak(seconds: float, level: int, less: int) -> None:
    assert steady_growth(sampled(seconds, lambda at: level - less * at), minimum=MINIMUM) is None


@patient
@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1e12)), max_size=80), st.floats(1, 1e6))
def test_never_less_than_the_floor_and_never_an_error(points: Points, minimum: float) -> None:
    trend = steady_growth(sorted(points), minimum=minimum)
    assert trend is None or (trend.growth >= minimum and trend.last - trend.first >= minimum)


@patient
@given(durations, st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_constant_offset_changes_nothing(seconds: float, level: float, shift: float) -> None:
    def points(base: float) -> Points:
        return sampled(seconds, lambda at: round(base) + 100 * at)

    assert (steady_growth(points(level), minimum=MINIMUM) is None) == (
        steady_growth(points(level + shift), minimum=MINIMUM) is None
    )


def test_a_leak_under_noise_and_with_a_wrong_point() -> None:
    points = [(at, value + 3 * (-1) ** i) for i, (at, value) in enumerate(sampled(10, lambda at: 10 + 20 * at))]
    points[-4] = (points[-4][0], 0.0)
    trend = steady_growth(points, minimum=MINIMUM)
    # the way back up from the wrong point is a step that is too large to be sure
    assert trend is None
    points = [(at, value + 3 * (-1) ** i) for i, (at, value) in enumerate(sampled(10, lambda at: 10 + 20 * at))]
    trend = steady_growth(points, minimum=MINIMUM)
    assert trend is not None
    assert trend.per_second == pytest.approx(20, rel=0.1)


def test_too_few_points_or_seconds_give_no_trend() -> None:
    assert steady_growth([], minimum=1) is None
    few = [(float(at), 100.0 * at) for at in range(MIN_POINTS * 2 - 2)]
    assert steady_growth(few[-MIN_POINTS + 1 :], minimum=1) is None
    assert steady_growth([(at / 100, 100.0 * at) for at in range(20)], minimum=1) is None  # 0.2 s


def test_a_long_series_is_thinned_and_stays_quick() -> None:
    points = [(float(at), 10.0 * at) for at in range(100 * MAX_POINTS)]
    trend = steady_growth(points, minimum=1)
    assert trend is not None
    assert (trend.first, trend.last) == (10.0 * 50 * MAX_POINTS, 10.0 * (100 * MAX_POINTS - 1))

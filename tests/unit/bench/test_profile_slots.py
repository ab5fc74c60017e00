from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.profile_slots import Step, Stored, Tracer, gaps, steps_table, stored, stored_table, wrap_class


def test_a_steps_own_time_is_without_the_steps_inside_it() -> None:
    tracer = Tracer()
    inner = tracer.wrap("inner", lambda: time.sleep(0.05))

    def outside() -> None:
        inner()
        time.sleep(0.02)

    tracer.wrap("outer", outside)()
    steps = tracer.steps
    assert 0.05 <= steps["inner"].wall_seconds < steps["outer"].whole_seconds[0]
    assert 0.02 <= steps["outer"].wall_seconds <= steps["outer"].whole_seconds[0] - 0.05
    assert steps["outer"].cpu_seconds < 0.02  # asleep
    tracer.reset()
    assert not tracer.steps


def test_threads_do_not_take_from_each_other() -> None:
    tracer = Tracer()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tracer.wrap("step", time.sleep), [0.05] * 4))
    assert tracer.steps["step"].calls == 4
    assert tracer.steps["step"].wall_seconds >= 0.2


def test_a_step_that_fails_is_timed_and_fails() -> None:
    tracer = Tracer()
    with pytest.raises(ValueError, match="x"):
        tracer.wrap("step", int)("x")
    assert tracer.steps["step"].calls == 1


def test_plain_methods_are_wrapped_and_others_are_not() -> None:
    class Thing:
        def plain(self) -> int:
            return 1

        def several(self) -> Any:
            yield 1

        @property
        def seen(self) -> int:
            return 2

    tracer = Tracer()
    wrap_class(tracer, Thing)
    thing = Thing()
    assert (thing.plain(), list(thing.several()), thing.seen) == (1, [1], 2)
    assert list(tracer.steps) == ["Thing.plain"]


def attempt(container: str, position: int, started: float, seconds: float) -> Stored:
    parts = dict.fromkeys(("create_seconds", "start_seconds", "teardown_seconds"), 0.001)
    return Stored(
        container=container, position=position, started=started, seconds={**parts, "duration_seconds": seconds}
    )


def test_gaps_are_within_a_container() -> None:
    found = gaps([attempt("a", 2, 10.5, 0.1), attempt("b", 1, 10.2, 9), attempt("a", 1, 10.0, 0.4)])
    assert found == pytest.approx([0.1])
    assert gaps([attempt("?", 1, 1, 0.1), attempt("?", 1, 2, 0.1)]) == []


def test_attempts_are_read_from_run_json() -> None:
    times = {"create_seconds": 0.1, "start_seconds": 0.2, "duration_seconds": 0.3, "teardown_seconds": 0.4}
    common = {"started_at": "1970-01-01T00:00:10+00:00", **times}
    known = {**common, "slot": {"position": 3}, "attestation": {"container_id": "c"}}
    unknown = {**common, "slot": None, "attestation": None}
    first, second = stored({"tests": [{"attempts": [known, unknown]}]})
    assert (first.container, first.position, first.started, first.seconds) == ("c", 3, 10.0, times)
    assert (second.container, second.position) == ("?", 1)


def test_tables() -> None:
    steps = {"long": Step(calls=4, wall_seconds=0.02, cpu_seconds=0.01, whole_seconds=[0.005] * 4), "tiny": Step()}
    page = steps_table(steps, 2)
    assert "| long | 2.00 | 10.00 | 5.00 | 5.00 |" in page
    assert "tiny" not in page
    told = stored_table([attempt("a", 1, 1.0, 0.004), attempt("a", 2, 1.006, 0.004)])
    assert "| first in their slot | 1 | 1.00 ms | 1.00 ms | 4.00 ms | 1.00 ms |" in told
    assert "median 2.00 ms" in told

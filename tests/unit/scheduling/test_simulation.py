import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.simulation import predict

MIB = 1024**2


def budget(*, cpus=4.0, memory_mib=4096, slots=4):
    return Budget(cpus=cpus, memory_bytes=memory_mib * MIB, slots=slots)


def known(make, name, seconds, *, memory_mib=1, cpus=0.1, **other):
    return make.assignment(name, history=make.history(seconds, memory_mib=memory_mib, cpus=cpus), **other)


def test_nothing_to_do(make):
    prediction = predict([], budget())
    assert (prediction.makespan_seconds, prediction.bound_by, prediction.utilisation) == (0.0, None, {})


def test_longest_first_fills_two_slots_evenly(make):
    plan = [known(make, f"t{s}", s) for s in (1, 2, 3, 6)]
    prediction = predict(plan, budget(slots=2))
    assert prediction.makespan_seconds == 6
    assert prediction.test_seconds == 12
    assert prediction.longest_seconds == 6
    assert prediction.utilisation["slots"] == pytest.approx(1.0)
    assert prediction.utilisation["cpus"] == pytest.approx(12 * 0.1 / (6 * 4))
    assert prediction.bound_by == "slots"


@pytest.mark.parametrize(
    ("limit", "test", "machine"),
    [
        ("cpus", {"cpus": 1.0}, {"cpus": 1.5}),
        ("memory", {"memory_mib": 400}, {"memory_mib": 700}),
        ("slots", {}, {"slots": 1}),
        ("group", {"group": "db"}, {}),
        ("exclusive", {"exclusive": True}, {}),
    ],
)
def test_the_limit_that_bound_is_named(make, limit, test, machine):
    plan = [known(make, f"t{n}", 2.0, **test) for n in range(3)]
    prediction = predict(plan, budget(**machine))
    assert prediction.makespan_seconds == pytest.approx(6.0)
    assert prediction.bound_by == limit
    assert prediction.bound_seconds == {limit: pytest.approx(4.0)}


def test_unknown_tests_are_counted_and_take_their_timeout(make):
    prediction = predict([make.assignment("new"), known(make, "old", 1.0)], budget())
    assert prediction.unknown == 1
    assert prediction.tests == 2
    assert prediction.makespan_seconds == 10.0
    assert prediction.bound_by is None


def test_startup_counts_for_each_test(make):
    plan = [known(make, f"t{n}", 1.0) for n in range(3)]
    assert predict(plan, budget(slots=1), startup_seconds=0.5).makespan_seconds == pytest.approx(4.5)


def test_a_reused_slot_is_started_once_for_its_tests(make):
    fast = make.profile("fast", reuse=4)
    plan = [known(make, f"t{n}", 0.1, profile=fast) for n in range(10)]
    prediction = predict(plan, budget(slots=1), startup_seconds=0.5, reused_seconds=0.01)
    assert [one.fresh for one in prediction.scheduled] == [n % 4 == 0 for n in range(10)]
    assert prediction.makespan_seconds == pytest.approx(10 * 0.1 + 3 * 0.5 + 7 * 0.01)


def test_the_packing_says_what_runs_beside_what(make):
    plan = [known(make, f"t{s}", s) for s in (1, 2, 3, 6)]
    scheduled = predict(plan, budget(slots=2)).scheduled
    assert [
        (one.assignment.test.id.path, one.worker, one.started_seconds, one.ended_seconds) for one in scheduled
    ] == [
        ("t6.py", 0, 0, 6),
        ("t3.py", 1, 0, 3),
        ("t2.py", 1, 3, 5),
        ("t1.py", 1, 5, 6),
    ]


def test_the_lower_bound_is_named(make):
    wide = [known(make, f"t{n}", 2.0, memory_mib=400, group="db") for n in range(3)]
    assert predict(wide, budget(memory_mib=500)).lower_bound == ("group", pytest.approx(6.0))
    alone = [known(make, f"t{n}", 2.0, cpus=1.0) for n in range(3)]
    assert predict(alone, budget(cpus=1.0)).lower_bound == ("cpus", pytest.approx(6.0))


@given(
    st.lists(
        st.tuples(st.floats(0.1, 10), st.integers(1, 600), st.floats(0, 1), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 5),
)
def test_the_prediction_lies_between_the_bounds_of_any_schedule(make, drawn, slots):
    plan = [
        known(make, f"t{n}", seconds, memory_mib=mib, cpus=cpus, exclusive=exclusive)
        for n, (seconds, mib, cpus, exclusive) in enumerate(drawn)
    ]
    prediction = predict(plan, budget(slots=slots, cpus=1.0, memory_mib=600))
    assert prediction.longest_seconds <= prediction.makespan_seconds * (1 + 1e-9)
    assert prediction.test_seconds / slots <= prediction.makespan_seconds * (1 + 1e-9)
    assert prediction.makespan_seconds <= prediction.test_seconds * (1 + 1e-9)
    assert prediction.lower_bound[1] <= prediction.makespan_seconds * (1 + 1e-9)
    assert sorted(one.assignment.test.id for one in prediction.scheduled) == sorted(a.test.id for a in plan)
    assert all(0 <= share <= 1 + 1e-9 for share in prediction.utilisation.values())
    assert sum(prediction.bound_seconds.values()) <= prediction.makespan_seconds * (1 + 1e-9)


def test_ten_thousand_tests_that_wait_for_memory_are_predicted_fast(make):
    plan = [known(make, f"t{n}", 1.0 + n % 97, memory_mib=200 + n % 311, cpus=0.05) for n in range(10_000)]
    begun = time.process_time()
    prediction = predict(plan, budget(slots=16, memory_mib=3000))
    assert time.process_time() - begun < 3.0
    assert prediction.bound_by == "memory"
    assert prediction.utilisation["memory"] > 0.9, "smaller tests fill the gaps"

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.suites import Preload
from orchestrator.scheduling.admission import Admission, Budget, Need, need_of

GIB = 1024**3
budgets = st.builds(
    Budget,
    cpus=st.floats(0.1, 64, allow_nan=False),
    memory_bytes=st.integers(1, 64 * GIB),
    slots=st.integers(1, 16),
)
needs = st.builds(
    Need,
    cpus=st.floats(0, 16, allow_nan=False),
    memory_bytes=st.integers(0, 16 * GIB),
    exclusive=st.booleans(),
    group=st.sampled_from([None, None, "db", "port"]),
)


@given(budgets, st.lists(needs, max_size=30))
def test_what_runs_together_is_within_the_budget_or_runs_alone(budget, wanted):
    admission, running = Admission(budget=budget), []
    for need in wanted:
        if admission.fits(need):
            admission = admission.take(need)
            running.append(need)
    assert running or not wanted, "an idle machine takes any test"
    if len(running) > 1:
        assert len(running) <= budget.slots
        assert sum(n.memory_bytes for n in running) <= budget.memory_bytes
        assert sum(n.cpus for n in running) <= budget.cpus + 0.001 * len(running)
        assert not any(n.exclusive for n in running)
        groups = [n.group for n in running if n.group]
        assert len(groups) == len(set(groups))


@given(budgets, st.lists(needs, max_size=10), needs)
def test_give_undoes_take_exactly(budget, before, need):
    admission = Admission(budget=budget)
    for one in before:
        if admission.fits(one):
            admission = admission.take(one)
    if admission.fits(need):
        assert admission.take(need).give(need) == admission


@given(budgets, st.lists(needs, max_size=10), st.randoms(use_true_random=False))
def test_nothing_is_left_taken_in_whatever_order_tests_end(budget, wanted, random):
    admission, running = Admission(budget=budget), []
    for need in wanted:
        if admission.fits(need):
            admission = admission.take(need)
            running.append(need)
    random.shuffle(running)
    for need in running:
        admission = admission.give(need)
    assert admission == Admission(budget=budget)


BUDGET = Budget(cpus=2.0, memory_bytes=4 * GIB, slots=3)
SMALL = Need(cpus=0.5, memory_bytes=GIB)


@pytest.mark.parametrize(
    ("running", "need", "limit"),
    [
        ([], Need(cpus=99, memory_bytes=99 * GIB, exclusive=True), None),
        ([SMALL], SMALL, None),
        ([SMALL], Need(cpus=1.5, memory_bytes=3 * GIB), None),
        ([SMALL], Need(cpus=1.6, memory_bytes=GIB), "cpus"),
        ([SMALL], Need(cpus=0.5, memory_bytes=3 * GIB + 1), "memory"),
        ([SMALL, SMALL, SMALL], Need(cpus=0, memory_bytes=0), "slots"),
        ([SMALL], Need(cpus=0, memory_bytes=0, exclusive=True), "exclusive"),
        ([Need(cpus=0, memory_bytes=0, exclusive=True)], SMALL, "exclusive"),
        ([Need(cpus=0, memory_bytes=0, group="db")], Need(cpus=0, memory_bytes=0, group="db"), "group"),
        ([Need(cpus=0, memory_bytes=0, group="db")], Need(cpus=0, memory_bytes=0, group="port"), None),
        ([Need(cpus=9, memory_bytes=0)], Need(cpus=0, memory_bytes=0), "cpus"),
    ],
)
def test_the_limit_that_binds_is_named(running, need, limit):
    admission = Admission(budget=BUDGET)
    for one in running:
        admission = admission.take(one)
    assert admission.binding(need) == limit
    assert admission.fits(need) is (limit is None)


def test_tenths_of_a_cpu_fill_the_machine_without_a_rounding_gap():
    admission = Admission(budget=Budget(cpus=1.0, memory_bytes=GIB, slots=100))
    tenth = Need(cpus=0.1, memory_bytes=0)
    for _ in range(10):
        assert admission.fits(tenth)
        admission = admission.take(tenth)
    assert admission.binding(tenth) == "cpus"


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"cpus": 0.0}, {"memory_bytes": 0}])
def test_a_budget_that_runs_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="budget"):
        Budget(**{"cpus": 1.0, "memory_bytes": 1, "slots": 1} | wrong)


def test_need_is_the_history_where_there_is_enough_of_it(make):
    known = make.assignment(history=make.history(1.0, attempts=3, memory_mib=60, cpus=0.2))
    assert need_of(known) == Need(cpus=0.2, memory_bytes=60 * 1024**2)


@pytest.mark.parametrize(
    "history", [None, {"attempts": 2, "memory_mib": 1, "cpus": 0.1}, {"memory_mib": 900, "cpus": 3.0}, {}]
)
def test_need_is_the_limits_where_history_is_absent_thin_larger_or_unmeasured(make, history):
    past = None if history is None else make.history(1.0, **history)
    assert need_of(make.assignment(history=past)) == Need(cpus=1.0, memory_bytes=512 * 1024**2)


@pytest.mark.parametrize(
    ("seen", "estimate"), [(0.01, 1.0), (0.99, 1.0), (1.2, 1.0), (1.3, 2.0), (2.2, 2.0), (2.3, 3.0), (9.0, 4.0)]
)
@pytest.mark.parametrize("attempts", [1, 2])
def test_cpus_that_were_seen_once_are_rounded_up_to_whole_ones(make, seen, estimate, attempts):
    past = make.history(1.0, attempts=attempts, cpus=seen, memory_mib=1)
    need = need_of(make.assignment(profile=make.profile(cpus=4.0), history=past))
    assert need == Need(cpus=estimate, memory_bytes=512 * 1024**2), "memory is believed later"


@pytest.mark.parametrize(
    ("limit", "reuse", "preload", "attempt", "estimate"),
    [
        (2.0, 10, Preload.START, 1, 1.0),
        (4.0, 10, Preload.COLLECT, 1, 2.0),
        (0.5, 10, Preload.START, 1, 0.5),
        (2.0, 10, Preload.START, 2, 2.0),  # a confirmation: it fails by nothing but its own
        (2.0, 1, Preload.START, 1, 2.0),  # nothing would confirm a timeout
        (2.0, 10, Preload.OFF, 1, 2.0),
    ],
)
def test_a_pytest_that_would_be_confirmed_is_taken_to_compute_in_one_thread(
    make, limit, reuse, preload, attempt, estimate
):
    plain = make.assignment(profile=make.profile(cpus=limit, reuse=reuse), attempt=attempt)
    command = replace(plain.test.command, preload=preload)
    need = need_of(replace(plain, test=replace(plain.test, command=command)))
    forked = reuse > 1 and attempt == 1 and preload is not Preload.OFF
    shared = 80 if forked else 0  # MiB that its pytest and templates stand at, beyond its own limit
    assert need == Need(cpus=estimate, memory_bytes=(512 + shared) * 1024**2)


def test_need_carries_exclusive_and_group(make):
    need = need_of(make.assignment(exclusive=True, group="db"))
    assert (need.exclusive, need.group) == (True, "db")

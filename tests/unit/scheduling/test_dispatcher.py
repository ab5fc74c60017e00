"""A test opens another container only if that ends sooner than waiting for an open one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.suites import Preload
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.dispatcher import Dispatcher, queued_test
from orchestrator.scheduling.simulation import predict

GIB = 1 << 30
TWO = Budget(cpus=2.0, memory_bytes=8 * GIB, slots=8)


@pytest.fixture
def fast(make):
    return make.profile("fast", reuse=100)


@pytest.fixture
def standard(make):
    return make.profile("standard", reuse=100, timeout_seconds=20.0)


def dispatch(*tests):
    return Dispatcher(TWO, [queued_test(rank, test) for rank, test in enumerate(tests)])


def known(make, profile, seconds, *, name="test_a", preload=Preload.OFF):
    made = make.assignment(name, profile=profile, history=make.history(seconds, cpus=1.0, memory_mib=10))
    command = replace(made.test.command, preload=preload)
    return replace(made, test=replace(made.test, command=command))


def started(going, now=0.0):
    found = []
    while (worker := going.start(now)) is not None:
        found.append((worker.number, worker.current.rank))
    return found


def test_what_is_done_sooner_than_a_container_opens_waits_for_the_one_there_is(make, fast):
    going = dispatch(known(make, fast, 0.3), known(make, fast, 0.15))
    assert started(going) == [(0, 0)]
    going.ended(going.workers[0], 0.3)
    assert started(going, 0.3) == [(0, 1)]


@pytest.mark.parametrize(("seconds", "both"), [(0.15, False), (0.25, True)])
def test_opening_pays_from_a_fifth_of_a_second_on(make, fast, seconds, both):
    going = dispatch(known(make, fast, 5.0), known(make, fast, seconds))
    assert len(started(going)) == 1 + both


@pytest.mark.parametrize(("seconds", "both"), [(0.95, False), (1.05, True)])
def test_a_pytest_takes_longer_to_be_ready_and_its_own_start_may_be_in_its_history(make, fast, seconds, both):
    long, short = (known(make, fast, s, preload=Preload.START) for s in (5.0, seconds))
    assert len(started(dispatch(long, short))) == 1 + both


def test_all_that_waits_for_it_counts(make, fast):
    going = dispatch(*(known(make, fast, 0.1) for _ in range(4)))
    assert len(started(going)) == 2


def test_another_profile_goes_ahead(make, fast, standard):
    going = dispatch(known(make, standard, 5.0), known(make, standard, 0.15), known(make, fast, 0.1))
    assert started(going) == [(0, 0), (1, 2)]
    going.ended(going.workers[1], 0.1)
    assert started(going, 0.1) == []
    going.ended(going.workers[0], 5.0)
    assert started(going, 5.0) == [(0, 1)]


def test_a_container_that_is_free_is_used(make, fast, standard):
    going = dispatch(known(make, fast, 1.0), known(make, fast, 0.9), known(make, fast, 0.1))
    assert len(started(going)) == 2
    going.ended(going.workers[1], 0.9)
    assert started(going, 0.9) == [(1, 2)]


def test_an_idle_container_is_free_too(make, fast, standard):
    first, second = known(make, fast, 1.0), known(make, standard, 0.9)
    going = dispatch(first, second)
    assert started(going) == [(0, 0), (1, 1)]
    going.ended(going.workers[0], 1.0)
    going.add(queued_test(2, known(make, standard, 0.1)))
    assert started(going, 1.0) == []
    going.ended(going.workers[1], 1.1)
    going.add(queued_test(3, known(make, fast, 5.0)))
    # worker 0 takes what worker 1 has put aside, or the other way round
    assert sorted(rank for _, rank in started(going, 1.1)) == [2, 3]


def test_tests_in_fresh_containers_never_wait_for_one(make):
    fresh = make.profile("fresh", reuse=1)
    assert len(started(dispatch(known(make, fresh, 0.01), known(make, fresh, 0.01)))) == 2


def test_without_history_a_container_is_opened(make, fast):
    tests = [make.assignment(f"test_{name}", profile=fast) for name in "ab"]
    assert len(started(dispatch(*tests))) == 2


def test_a_short_queued_ahead_test_stays_with_its_worker(make, fast):
    going = dispatch(known(make, fast, 0.2), known(make, fast, 0.15))
    assert started(going) == [(0, 0)]
    assert going.queue_ahead(0.0) is going.workers[0]
    assert going.stealable() is None
    assert going.ended(going.workers[0], 0.2).rank == 1


def test_the_simulation_opens_the_same_containers(make, fast, standard):
    plan = [known(make, fast, 0.05, name=f"test_{n}") for n in range(3)] + [known(make, standard, 1.0)]
    scheduled = predict(plan, TWO, startup_seconds=0.2).scheduled
    assert sum(one.fresh for one in scheduled) == 2

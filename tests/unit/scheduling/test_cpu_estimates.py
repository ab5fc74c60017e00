"""CPU estimates from the tests of a run that have ended."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.usage import Usage
from orchestrator.scheduling.admission import Budget, need_of
from orchestrator.scheduling.cpu_estimates import CpuEstimates
from orchestrator.scheduling.events import Policy
from orchestrator.scheduling.scheduler import schedule
from orchestrator.stop_flag import StopFlag

MIB = 1 << 20


@pytest.fixture
def wide(make):
    return make.profile("standard", cpus=2.0)


def ended(make, assignment, cpus, *, outcome=Outcome.PASSED, seconds=2.0):
    attempt = make.attempt(outcome, assignment, test_seconds=seconds)
    usage = Usage(cpu_seconds=None if cpus is None else cpus * seconds)
    return replace(attempt, evidence=replace(attempt.evidence, usage=usage))


def test_three_passed_tests_give_an_estimate_for_the_others(make, wide):
    plan = [make.assignment(f"test_{n}", profile=wide) for n in range(4)]
    estimates = CpuEstimates(plan)
    assert [estimates.note(ended(make, one, 0.99)) for one in plan[:3]] == [False, False, True]
    need = estimates.need_of(plan[3])
    assert (need.cpus, need.memory_bytes) == (1.0, 512 * MIB), "memory is never guessed"


def test_the_largest_counts_and_may_come_later(make, wide):
    plan = [make.assignment(f"test_{n}", profile=wide) for n in range(6)]
    estimates = CpuEstimates(plan)
    for one in plan[:3]:
        estimates.note(ended(make, one, 0.5))
    assert estimates.need_of(plan[5]).cpus == 1.0
    assert estimates.note(ended(make, plan[3], 1.7))
    assert estimates.need_of(plan[5]).cpus == 2.0
    assert not estimates.note(ended(make, plan[4], 0.1))


def test_never_less_than_half_of_the_limit_nor_more_than_it(make):
    wide, plan = make.profile("wide", cpus=8.0), []
    plan = [make.assignment(f"test_{n}", profile=wide) for n in range(8)]
    estimates = CpuEstimates(plan)
    for one in plan[:3]:
        estimates.note(ended(make, one, 0.5))
    assert estimates.need_of(plan[7]).cpus == 4.0
    estimates.note(ended(make, plan[4], 20.0))
    assert estimates.need_of(plan[7]).cpus == 8.0


@pytest.mark.parametrize("other", ["suite", "profile", "history", "attempt"])
def test_nothing_is_said_of_other_kinds_nor_of_what_is_known_better(make, wide, other):
    plan = [make.assignment(f"test_{n}", profile=wide) for n in range(3)]
    stranger = make.assignment("stranger", profile=wide)
    stranger = {
        "suite": replace(stranger, test=replace(stranger.test, suite="other")),
        "profile": replace(stranger, profile=make.profile("other", cpus=2.0)),
        "history": replace(stranger, history=make.history(1.0, cpus=1.9)),
        "attempt": replace(stranger, attempt=2),
    }[other]
    estimates = CpuEstimates([*plan, stranger])
    for one in plan:
        estimates.note(ended(make, one, 0.5))
    assert estimates.need_of(stranger) == need_of(stranger)
    assert estimates.need_of(stranger).cpus > 1.0


@pytest.mark.parametrize(
    ("cpus", "outcome", "seconds"),
    [(None, Outcome.PASSED, 1.0), (0.1, Outcome.TIMEOUT, 1.0), (0.1, Outcome.PASSED, 0.0)],
)
def test_what_was_not_measured_or_did_not_pass_says_nothing(make, wide, cpus, outcome, seconds):
    plan = [make.assignment(f"test_{n}", profile=wide) for n in range(9)]
    estimates = CpuEstimates(plan)
    assert not any(estimates.note(ended(make, a, cpus, outcome=outcome, seconds=seconds)) for a in plan)


def most_at_once(make, plan, cpus):
    """Return how many tests run at one time on the given CPUs."""
    lock, running, most = threading.Lock(), set(), 0
    together = threading.Barrier(2)

    def execute(assignment, queue_seconds):
        nonlocal most
        with lock:
            running.add(assignment.test.id)
            most = max(most, len(running))
        if cpus <= 1.0 and assignment.test.id.path in {"t4.py", "t5.py"}:
            together.wait(20)  # each needs the other beside it
        with lock:
            running.discard(assignment.test.id)
        return ended(make, assignment, cpus)

    going = schedule(
        plan,
        execute,
        budget=Budget(cpus=2.0, memory_bytes=8192 * MIB, slots=8),
        policy=Policy(),
        stop=StopFlag(),
        profiles={},
        on_event=lambda _event: None,
    )
    assert sum(1 for _ in going) == len(plan)
    return most


@pytest.mark.parametrize(("cpus", "most"), [(0.9, 2), (1.9, 1)])
def test_a_first_run_uses_both_cpus_once_that_is_known_to_do(make, wide, cpus, most):
    plan = [make.assignment(f"t{n}", profile=wide) for n in range(6)]
    assert most_at_once(make, plan, cpus) == most

import gc
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import Attempt, Verb
from orchestrator.scheduling.events import QueueDrained
from orchestrator.scheduling.scheduler import Budget, Finished, Policy, Started, schedule
from orchestrator.stop_flag import StopFlag, StopLevel

MIB = 1024**2
P, F, T, M = Outcome.PASSED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.OOM
INFRA, STOPPED = Outcome.INFRA, Outcome.INTERRUPTED


def budget(*, cpus=8.0, memory_mib=8192, slots=4):
    return Budget(cpus=cpus, memory_bytes=memory_mib * MIB, slots=slots)


def start(plan, execute, *, stop=None, policy=None, on_event=lambda _event: None, profiles=None, **limits):
    return schedule(
        plan,
        execute,
        budget=budget(**limits),
        policy=policy or Policy(),
        stop=stop or StopFlag(),
        profiles=profiles or {},
        on_event=on_event,
    )


def name(result):
    return result.test.id.path.removesuffix(".py")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("orch-slot")]
    assert left == []


def plan_of(make, count, **other):
    return [make.assignment(f"t{n}", **other) for n in range(count)]


# ---------------------------------------------------------------- each test, once


def test_every_test_yields_its_result(make, executor):
    run = start(plan_of(make, 50), executor)
    assert sorted(map(name, run)) == sorted(f"t{n}" for n in range(50))
    assert run.not_run == ()
    assert run.stopped_because is None


def test_an_empty_plan_is_over_at_once(executor):
    run = start([], executor)
    assert list(run) == []
    assert run.stopped_because is None


def test_it_is_iterated_once(make, executor):
    run = start(plan_of(make, 1), executor)
    assert len(list(run)) == 1
    with pytest.raises(RuntimeError, match="once"):
        iter(run)


@settings(max_examples=60, deadline=None)
@given(
    tests=st.lists(
        st.tuples(
            st.lists(st.sampled_from(list(Outcome)), max_size=4),
            st.integers(0, 2),
            st.booleans(),
            st.sampled_from([None, None, "db", "port"]),
            st.integers(1, 900),
        ),
        max_size=12,
    ),
    max_fail=st.none() | st.integers(1, 3),
    stop_after=st.none() | st.integers(0, 8),
    leave_after=st.none() | st.integers(0, 8),
    slots=st.integers(1, 4),
)
def test_each_assignment_has_exactly_one_result_or_is_listed_as_not_run(
    make, new_executor, *, tests, max_fail, stop_after, leave_after, slots
):
    larger = make.profile("larger", memory_mib=1000)
    plan = [
        make.assignment(
            f"t{n}",
            retries=retries,
            exclusive=exclusive,
            group=group,
            profile=make.profile(memory_mib=memory_mib),
        )
        for n, (_, retries, exclusive, group, memory_mib) in enumerate(tests)
    ]
    execute = new_executor(script={f"t{n}": outcomes for n, (outcomes, *_) in enumerate(tests)})
    stop = StopFlag()
    run = start(
        plan,
        execute,
        stop=stop,
        policy=Policy(max_fail=max_fail),
        profiles={"larger": larger},
        slots=slots,
        memory_mib=700,
    )
    seen = []
    for result in run:
        seen.append(name(result))
        assert [a.assignment.attempt for a in result.attempts] == list(range(1, len(result.attempts) + 1))
        if len(seen) == stop_after:
            stop.set(StopLevel.DRAIN)
        if len(seen) == leave_after:
            break
    assert sorted([*seen, *(one.removesuffix(".py") for one in run.not_run)]) == sorted(
        a.test.id.path.removesuffix(".py") for a in plan
    )
    if stop.level is StopLevel.RUN:
        assert run.not_run == ()
    for together in execute.overlaps:
        assert len(together) <= slots
        assert len(together) == 1 or sum(a.profile.limits.memory_bytes for a in together) <= 700 * MIB
        assert len(together) == 1 or not any(a.exclusive for a in together)
        groups = [a.group for a in together if a.group]
        assert len(groups) == len(set(groups))


# ---------------------------------------------------------------- together, and not together


def test_tests_really_run_at_the_same_time(make):
    together = threading.Barrier(4, timeout=10)

    def execute(assignment, _queue_seconds):
        together.wait()
        return make.attempt(P, assignment)

    assert len(list(start(plan_of(make, 8), execute, slots=4))) == 8


def test_a_test_larger_than_the_budget_runs_alone(make, new_executor):
    execute = new_executor(seconds=0.005)
    huge = make.assignment("huge", profile=make.profile(cpus=64.0, memory_mib=99999))
    results = list(start([*plan_of(make, 6), huge], execute))
    assert len(results) == 7
    assert all(len(together) == 1 for together in execute.overlaps if huge in together)
    assert max(map(len, execute.overlaps)) > 1


def test_longest_first(make, executor):
    plan = [make.assignment(f"t{s}", history=make.history(s / 10)) for s in (3, 1, 4, 2)]
    list(start(plan, executor, slots=1))
    assert executor.names == ["t4", "t3", "t2", "t1"]


def test_a_big_test_is_not_left_for_the_end_by_a_stream_of_small_ones(make):
    """The big test needs the whole machine, and beside the first one there is always room for a small one. Small
    tests may go ahead of it while many of them are left, but not until the last.
    """
    some_ended, started = threading.Event(), []

    def execute(assignment, _queue_seconds):
        started.append(assignment.test.id.path)
        if assignment is first:
            some_ended.wait(10)
        elif len(started) > 10:
            some_ended.set()
        return make.attempt(P, assignment)

    wide = make.profile(memory_mib=600, timeout_seconds=30.0)
    first = make.assignment("first", history=make.history(20.0), profile=wide)
    big = make.assignment("big", history=make.history(8.0), profile=make.profile(memory_mib=1000))
    small = [make.assignment(f"s{n}", history=make.history(7.0, memory_mib=100)) for n in range(40)]
    list(start([*small, big, first], execute, memory_mib=1000, slots=4))
    assert "first.py" in started[:4], "the first four start at once, in any order of their threads"
    assert 1 < started.index("big.py") <= 42 - 8, "it is no earlier and no later than what is left of the others"


def test_queue_time_counts_from_the_start_and_again_from_each_retry(make, new_executor):
    execute = new_executor(seconds=0.2, script={"t0": [F, P]})
    list(start(plan_of(make, 2, retries=1), execute, slots=1))
    assert execute.names == ["t0", "t0", "t1"]
    assert execute.queued[0] < 0.15
    assert execute.queued[1] < 0.15
    assert execute.queued[2] >= 0.4


# ---------------------------------------------------------------- retries and promotion


def test_retries_events_and_verbs(make, new_executor):
    execute = new_executor(script={"t0": [F, INFRA, P], "t1": [F, F], "t2": [M, P]})
    larger = make.profile("larger", memory_mib=1000)
    events = []
    plan = [make.assignment(f"t{n}", retries=1) for n in range(4)]
    results = {name(r): r for r in start(plan, execute, on_event=events.append, profiles={"larger": larger})}
    assert {n: r.verb for n, r in results.items()} == {
        "t0": Verb.FLAKY,
        "t1": Verb.FAIL,
        "t2": Verb.UNDERSIZED,
        "t3": Verb.PASS,
    }
    assert [a.outcome for a in results["t0"].attempts] == [F, INFRA, P]
    assert results["t2"].final.assignment.profile.limits.memory_bytes == 1000 * MIB
    assert any(isinstance(e, QueueDrained) for e in events)
    events = [e for e in events if not isinstance(e, QueueDrained)]
    of_t2 = [
        e
        for e in events
        if "t2" in str((e.assignment if isinstance(e, Started) else e.attempt.assignment).test.id)
    ]
    assert [type(e) for e in of_t2] == [Started, Finished, Started, Finished]
    assert [(e.will_retry, e.next and e.next.profile.name) for e in of_t2 if isinstance(e, Finished)] == [
        (True, "larger"),
        (False, None),
    ]
    assert len([e for e in events if isinstance(e, Started)]) == 8


def test_events_come_in_the_thread_that_iterates(make, new_executor):
    threads = set()
    list(
        start(
            plan_of(make, 8),
            new_executor(seconds=0.002),
            on_event=lambda _e: threads.add(threading.get_ident()),
        )
    )
    assert threads == {threading.get_ident()}


# ---------------------------------------------------------------- stopping


def test_max_fail_starts_nothing_new_and_keeps_what_runs(make, new_executor):
    execute = new_executor(script={f"t{n}": [F] for n in range(20)})
    stop = StopFlag()
    run = start(plan_of(make, 20), execute, stop=stop, policy=Policy(max_fail=3), slots=2)
    results = list(run)
    assert 3 <= len(results) <= 4
    assert len(results) + len(run.not_run) == 20
    assert stop.level is StopLevel.DRAIN
    assert run.stopped_because == "3 tests failed (--max-fail 3)"


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_max_fail_holds_where_tests_are_queued_ahead(make, new_executor, limit):
    execute = new_executor(script={f"t{n}": [F] for n in range(20)})
    plan = plan_of(make, 20, profile=make.profile(reuse=100))
    ran = []
    for result in start(plan, execute, policy=Policy(max_fail=limit), slots=1):
        time.sleep(0.02)  # what records results is late
        ran.append(name(result))
    assert len(ran) == limit


def test_max_fail_counts_tests_not_attempts_and_no_engine_failures(make, new_executor):
    script = {"t0": [F, P], "t1": [INFRA] * 3, "t2": [F, F], "t3": [F, P]}
    run = start(plan_of(make, 8, retries=1), new_executor(script=script), policy=Policy(max_fail=2))
    assert len(list(run)) == 8
    assert run.stopped_because is None


def test_a_stop_keeps_what_is_known_of_a_test_that_waits_for_its_retry(make):
    """t0 fails and is queued again behind t1, which uses the whole machine; then the run is drained."""
    stop = StopFlag()
    whole = make.profile(memory_mib=1000)

    def execute(assignment, _queue_seconds):
        if assignment.test.id.path == "t1.py":
            return make.attempt(F, assignment)
        stop.set(StopLevel.DRAIN, "enough")
        return make.attempt(P, assignment)

    plan = [
        make.assignment("t1", group="db", retries=1, profile=whole),
        make.assignment("t2", group="db", profile=whole),
        make.assignment("t3", group="db", profile=whole),
    ]
    run = start(plan, execute, stop=stop, memory_mib=1000)
    results = {name(r): r for r in run}
    assert results["t1"].verb is Verb.FAIL
    assert results["t2"].verb is Verb.PASS
    assert run.not_run == ("t3.py",)
    assert run.stopped_because == "enough"


def test_stopped_from_another_thread_running_tests_are_yielded_as_interrupted(make, new_executor):
    stop = StopFlag()
    execute = new_executor(seconds=30.0, stop=stop)
    timer = threading.Timer(0.05, stop.set, [StopLevel.TERMINATE, "SIGINT"])
    timer.start()
    run = start(plan_of(make, 5), execute, stop=stop, slots=2)
    results = list(run)
    timer.join()
    assert [r.verb for r in results] == [Verb.STOPPED, Verb.STOPPED]
    assert len(run.not_run) == 3
    assert run.stopped_because == "SIGINT"


def test_stopped_before_it_began_nothing_runs(make, executor):
    stop = StopFlag()
    stop.set(StopLevel.KILL)
    run = start(plan_of(make, 3), executor, stop=stop)
    assert list(run) == []
    assert run.not_run == ("t0.py", "t1.py", "t2.py")
    assert run.stopped_because == "stopped (kill)"
    assert executor.started == []


def test_the_runs_deadline_terminates(make, new_executor):
    stop = StopFlag()
    run = start(
        plan_of(make, 3),
        new_executor(seconds=30.0, stop=stop),
        stop=stop,
        policy=Policy(deadline_seconds=0.05),
        slots=1,
    )
    begun = time.monotonic()
    assert [r.outcome for r in run] == [STOPPED]
    assert 0.05 <= time.monotonic() - begun < 5
    assert stop.level is StopLevel.TERMINATE
    assert len(run.not_run) == 2
    assert run.stopped_because == "the run's time limit of 0.05 s has passed"


def test_a_deadline_that_is_not_reached_changes_nothing(make, executor):
    run = start(plan_of(make, 3), executor, policy=Policy(deadline_seconds=60.0))
    assert len(list(run)) == 3
    assert run.stopped_because is None


# ---------------------------------------------------------------- left early


def test_a_break_ends_and_awaits_what_runs(make, new_executor):
    stop = StopFlag()
    run = start(plan_of(make, 9), new_executor(script={}, seconds=0.03, stop=stop), stop=stop, slots=3)
    for _result in run:
        break
    assert stop.level is StopLevel.TERMINATE
    assert len(run.not_run) == 8
    assert run.stopped_because == "its results were no longer wanted"


def test_leaving_after_the_last_result_is_no_stop(make, executor):
    stop = StopFlag()
    run = start(plan_of(make, 1), executor, stop=stop)
    for _result in run:
        break
    assert stop.level is StopLevel.RUN
    assert run.stopped_because is None


def test_an_exception_of_the_consumer_ends_what_runs_before_it_is_handled(make, new_executor):
    stop = StopFlag()
    run = start(plan_of(make, 9), new_executor(seconds=0.03, stop=stop), stop=stop, slots=3)
    try:
        for _result in run:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        alive = [t.name for t in threading.enumerate() if t.name.startswith("orch-slot")]
    assert alive == []
    assert stop.level is StopLevel.TERMINATE


def test_an_exception_out_of_execute_ends_the_run_and_comes_out(make, new_executor):
    stop = StopFlag()
    slow = new_executor(seconds=30.0, stop=stop)

    def execute(assignment, queue_seconds):
        if assignment.test.id.path == "t1.py":
            raise ZeroDivisionError("defect")
        return slow(assignment, queue_seconds)

    run = start(plan_of(make, 9), execute, stop=stop, slots=3)
    with pytest.raises(ZeroDivisionError, match="defect"):
        list(run)
    assert stop.level is StopLevel.TERMINATE
    assert run.stopped_because == "ZeroDivisionError: defect"
    assert len(run.not_run) == 9


def test_an_exception_out_of_on_event_ends_the_run_too(make, new_executor):
    stop = StopFlag()

    def on_event(event):
        if isinstance(event, Finished):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        list(start(plan_of(make, 9), new_executor(seconds=0.01, stop=stop), stop=stop, on_event=on_event))
    assert stop.level is StopLevel.TERMINATE


def test_ctrl_c_while_waiting_terminates_and_a_second_one_kills(make):
    stop = StopFlag()
    reached = []

    def execute(assignment, _queue_seconds):
        for level in (StopLevel.RUN, StopLevel.TERMINATE):
            reached.append(stop.wait(10.0, above=level))
            if reached[-1] is StopLevel.TERMINATE:
                os.kill(os.getpid(), signal.SIGINT)
        return make.attempt(STOPPED, assignment)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(start(plan_of(make, 1), execute, stop=stop))
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert reached == [StopLevel.TERMINATE, StopLevel.KILL]


# ---------------------------------------------------------------- size


def test_while_it_waits_no_finished_attempt_is_alive(make):
    """Neither the loop nor an idle worker may keep an attempt, because it holds the tails of a test's output."""
    plan, names, alive = plan_of(make, 4), [], []

    def attempts_alive():
        gc.collect()  # what earlier tests left in cycles
        return sum(isinstance(one, Attempt) for one in gc.get_objects())

    def execute(assignment, _queue_seconds):
        if assignment is plan[0]:
            deadline = time.monotonic() + 10
            while len(names) < 3 and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.02)
            alive.append(attempts_alive())
        return make.attempt(P, assignment)

    before = attempts_alive()
    for result in start(plan, execute):
        names.append(name(result))
        del result
    assert len(names) == 4
    assert alive == [before]


def test_ten_thousand_tests_are_scheduled_fast_and_leave_no_attempt_behind(make):
    standard = make.profile()
    plan = [
        make.assignment(
            f"t{n}",
            profile=standard,
            history=make.history(0.1 + n % 89, memory_mib=50 + n % 301, cpus=0.1),
        )
        for n in range(10_000)
    ]
    template = make.attempt()
    answer = {}

    def execute(assignment, _queue_seconds):
        return replace(template, assignment=assignment)

    alive, begun = [], time.process_time()
    for count, result in enumerate(start(plan, execute, slots=8, memory_mib=4096)):
        answer[result.test.id] = result.outcome
        if count % 2500 == 2499:
            alive.append(sum(isinstance(one, Attempt) for one in gc.get_objects()))
    seconds = time.process_time() - begun
    assert len(answer) == 10_000
    assert seconds < 30.0  # what grows with the square of the tests takes minutes
    assert max(alive) < 500  # of 10,000

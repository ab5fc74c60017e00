"""Worker threads and queued-ahead tests, through `schedule` with real threads."""

import threading
import time
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model.evidence import SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import Verb
from orchestrator.scheduling.admission import need_of
from orchestrator.scheduling.events import QueueDrained
from orchestrator.scheduling.scheduler import Budget, Finished, Policy, Started, schedule
from orchestrator.stop_flag import StopFlag, StopLevel

MIB = 1024**2
P, F = Outcome.PASSED, Outcome.FAILED


@dataclass
class Slots:
    """An executor with reused slots in memory; it records which tests ran in which lane and slot, and which were
    announced.
    """

    make: object
    seconds: float = 0.001
    script: dict = field(default_factory=dict)
    asks: bool = True
    """True if it asks for the upcoming test while one is still running, as the engine does."""
    runs: list = field(default_factory=list)
    """(number of the lane, assignment, position in its slot, whether it was announced)"""
    together: list = field(default_factory=list)
    prepared: list = field(default_factory=list)
    closed: list = field(default_factory=list)
    broken_promises: list = field(default_factory=list)

    def __post_init__(self):
        self.lock = threading.Lock()
        self.running = []
        self.lanes = []

    def lane(self):
        with self.lock:
            self.lanes.append(SlotLane(self, len(self.lanes)))
            return self.lanes[-1]

    def prepare(self, assignments):
        self.prepared.append([a.test.id.path.removesuffix(".py") for a in assignments])


class SlotLane:
    def __init__(self, slots, number):
        self.slots, self.number = slots, number
        self.profile, self.position, self.promised = None, 0, None
        self.thread = None

    def run(self, assignment, waits_since, upcoming):
        slots = self.slots
        self.thread = self.thread or threading.get_ident()
        assert self.thread == threading.get_ident()
        assert waits_since <= time.monotonic()
        if self.promised is not None and self.promised is not assignment:
            slots.broken_promises.append((self.promised, assignment))
        announced = self.promised is assignment
        reused = assignment.profile == self.profile and assignment.profile.reuse > 1
        self.position = self.position + 1 if reused else 1
        self.profile = assignment.profile
        with slots.lock:
            slots.runs.append((self.number, assignment, self.position, announced))
            slots.running.append(assignment)
            slots.together.append(tuple(slots.running))
        time.sleep(slots.seconds)
        self.promised = upcoming() if slots.asks else None
        assert self.promised is None or upcoming() is self.promised
        with slots.lock:
            slots.running = [one for one in slots.running if one is not assignment]
        outcomes = slots.script.get(assignment.test.id.path.removesuffix(".py"), [])
        outcome = outcomes[assignment.attempt - 1] if assignment.attempt <= len(outcomes) else P
        attempt = slots.make.attempt(outcome, assignment)
        return replace(attempt, evidence=replace(attempt.evidence, slot=SlotUse(position=self.position)))

    def close(self):
        self.slots.closed.append((self.number, self.thread == threading.get_ident()))


@pytest.fixture
def slots(make):
    return lambda **given: Slots(make, **given)


def start(plan, execute, *, cpus=8.0, memory_mib=8192, count=2, stop=None, policy=None, on_event=lambda _e: None):
    return schedule(
        plan,
        execute,
        budget=Budget(cpus=cpus, memory_bytes=memory_mib * MIB, slots=count),
        policy=policy or Policy(),
        stop=stop or StopFlag(),
        profiles={},
        on_event=on_event,
    )


def plan_of(make, count, profile=None, name="t", **other):
    profile = profile or make.profile("fast", reuse=100)
    return [make.assignment(f"{name}{n}", profile=profile, **other) for n in range(count)]


def name(assignment):
    return assignment.test.id.path.removesuffix(".py")


def test_tests_of_one_profile_follow_one_another_in_two_lanes(make, slots):
    execute = slots()
    results = list(start(plan_of(make, 40), execute))
    assert len(results) == 40
    assert {number for number, *_ in execute.runs} == {0, 1}
    announced = sum(told for *_, told in execute.runs)
    assert announced > 30, "nearly all are known to their lane before the one before has ended"
    assert execute.broken_promises == []
    assert max(map(len, execute.together)) == 2


def test_lanes_are_closed_once_each_in_their_own_thread(make, slots):
    execute = slots()
    list(start(plan_of(make, 9), execute, count=3))
    assert sorted(execute.closed) == [(0, True), (1, True), (2, True)]


def test_a_plain_function_can_be_the_executor(make):
    seen = []

    def execute(assignment, queue_seconds):
        seen.append(queue_seconds)
        return make.attempt(P, assignment)

    assert len(list(start(plan_of(make, 20), execute))) == 20
    assert all(0 <= seconds < 5 for seconds in seen)


def test_where_slots_are_fresh_nothing_follows_and_the_next_ones_are_named(make, slots):
    execute = slots(asks=True)
    fresh = make.profile("standard")
    list(start(plan_of(make, 12, fresh), execute))
    assert not any(told for *_, told in execute.runs)
    assert execute.prepared[0] == [f"t{n}" for n in range(2, 10)]
    assert execute.prepared[-1] == ["t11"]


def test_where_all_are_reused_there_are_no_hints(make, slots):
    execute = slots()
    list(start(plan_of(make, 12), execute))
    assert execute.prepared == []


@pytest.mark.parametrize("other", [{"exclusive": True}, {"group": "db"}])
def test_tests_that_need_a_fresh_slot_are_not_queued_ahead(make, slots, other):
    execute = slots()
    list(start(plan_of(make, 12, **other), execute))
    assert not any(told for *_, told in execute.runs)
    assert max(map(len, execute.together)) == 1


def test_a_test_goes_to_the_worker_that_has_its_slot(make, slots):
    """With two profiles in turn and one worker each, no slot is given up for the other."""
    a, b = make.profile("a", reuse=100, memory_mib=300), make.profile("b", reuse=100, memory_mib=301)
    execute = slots(asks=False)
    plan = [one for n in range(10) for one in (*plan_of(make, 1, a, f"a{n}_"), *plan_of(make, 1, b, f"b{n}_"))]
    list(start(plan, execute, memory_mib=700))
    begun = [
        (assignment.profile.name, number) for number, assignment, position, _ in execute.runs if position == 1
    ]
    assert len(begun) <= 4, f"each slot is begun about once, not for each test: {begun}"


def test_tests_queued_ahead_behind_a_long_one_move_to_a_free_worker(make, slots):
    """The duration of the first test is not known; tests queued ahead behind it must not wait for it."""
    gate = threading.Event()
    ran = []

    class Executor(Slots):
        pass

    execute = Executor(make)

    class OneLane(SlotLane):
        def run(self, assignment, waits_since, upcoming):
            if name(assignment) == "t0":
                assert gate.wait(10)
            ran.append(name(assignment))
            if len(ran) == 11:
                gate.set()
            return super().run(assignment, waits_since, upcoming)

    def lane():
        with execute.lock:
            execute.lanes.append(OneLane(execute, len(execute.lanes)))
            return execute.lanes[-1]

    execute.lane = lane
    results = list(start(plan_of(make, 12), execute))
    assert len(results) == 12
    assert ran[-1] == "t0"


def test_a_big_test_is_not_overtaken_by_queued_ahead_tests(make, slots):
    """The big test is second in the queue and needs the whole machine; nothing behind it may be queued ahead."""
    fast = make.profile("fast", reuse=100, memory_mib=100)
    execute = slots()
    first = plan_of(make, 2, fast, "first", history=make.history(0.2))
    big = make.assignment("big", profile=make.profile("big", memory_mib=1000), history=make.history(0.19))
    small = plan_of(make, 30, fast, "s", history=make.history(0.18))
    list(start([*small, big, *first], execute, memory_mib=1000))
    order = [name(a) for _, a, *_ in execute.runs]
    before = execute.runs[: order.index("big")]
    assert not any(told for *_, told in before), "what goes ahead of it is backfilled by the line's rules alone"
    assert len(before) <= 8
    assert any(told for *_, told in execute.runs[len(before) :])


def test_a_test_that_is_known_to_be_long_neither_follows_nor_is_followed(make, slots):
    execute = slots()
    list(start(plan_of(make, 12, history=make.history(2.0)), execute))
    assert not any(told for *_, told in execute.runs)


def test_started_is_emitted_when_a_queued_ahead_test_has_become_the_current_one(make, slots):
    events = []
    list(start(plan_of(make, 30), slots(), on_event=events.append, count=2))
    events = [event for event in events if not isinstance(event, QueueDrained)]
    running = set()
    for event in events:
        if isinstance(event, Started):
            running.add(name(event.assignment))
            assert len(running) <= 2
        else:
            running.remove(name(event.attempt.assignment))
    assert len(events) == 60


def test_draining_finishes_only_tests_that_have_started(make, slots):
    stop = StopFlag()
    execute = slots(seconds=0.05)
    run = start(plan_of(make, 40), execute, stop=stop)
    results = []
    for result in run:
        results.append(result)
        if len(results) == 5:
            stop.set(StopLevel.DRAIN, "enough")
    assert len(results) + len(run.not_run) == 40
    assert len(results) <= 5 + 2 * 2 + 2, "each lane finishes its current test and one queued ahead"
    assert execute.broken_promises == []


def test_an_exception_in_a_lane_ends_the_run_and_nothing_behind_it_begins(make, slots):
    execute = slots()
    plan = plan_of(make, 40)
    original = execute.lane

    def lane():
        one = original()
        run = one.run

        def failing(assignment, waits_since, upcoming):
            if name(assignment) == "t5":
                raise ZeroDivisionError("defect")
            return run(assignment, waits_since, upcoming)

        one.run = failing
        return one

    execute.lane = lane
    run = start(plan, execute)
    with pytest.raises(ZeroDivisionError, match="defect"):
        list(run)
    assert len(execute.closed) == 2
    assert len(execute.runs) < 30
    assert "t5.py" in run.not_run


def test_an_error_when_a_lane_is_closed_or_made_comes_out(make, slots):
    execute = slots()
    original = execute.lane

    def lane():
        one = original()

        def close():
            raise OSError("cannot give up")

        one.close = close
        return one

    execute.lane = lane
    with pytest.raises(OSError, match="cannot give up"):
        list(start(plan_of(make, 3), execute))

    def none():
        raise OSError("no place")

    execute.lane = none
    with pytest.raises(OSError, match="no place"):
        list(start(plan_of(make, 3), execute))


@settings(max_examples=60, deadline=None)
@given(
    tests=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "fresh"]),
            st.integers(1, 900),
            st.floats(0.1, 3.0),
            st.booleans(),
            st.sampled_from([None, None, None, "db"]),
            st.lists(st.sampled_from([P, F, Outcome.OOM, Outcome.INFRA]), max_size=3),
        ),
        max_size=30,
    ),
    count=st.integers(1, 4),
    stop_after=st.none() | st.integers(0, 10),
    asks=st.booleans(),
)
def test_the_budget_holds_every_promise_is_kept_and_every_test_is_accounted_for(
    make, *, tests, count, stop_after, asks
):
    profiles = {
        "a": make.profile("a", reuse=50, memory_mib=900, cpus=3.0),
        "b": make.profile("b", reuse=50, memory_mib=900, cpus=3.0),
        "fresh": make.profile("fresh", memory_mib=900, cpus=3.0),
    }
    plan = [
        make.assignment(
            f"t{n}",
            profile=profiles[kind],
            history=make.history(1.0, memory_mib=memory, cpus=cpus),
            exclusive=exclusive,
            group=group,
        )
        for n, (kind, memory, cpus, exclusive, group, _) in enumerate(tests)
    ]
    execute = Slots(make, seconds=0.0002, asks=asks, script={f"t{n}": t[-1] for n, t in enumerate(tests)})
    stop, seen = StopFlag(), []
    run = start(plan, execute, stop=stop, count=count, memory_mib=1000, cpus=4.0)
    for result in run:
        seen.append(name(result.final.assignment))
        if result.verb is Verb.FAIL and stop.level is StopLevel.RUN:
            assert not result.final.evidence.slot.reused, "a failure in a reused slot never counts alone"
        if len(seen) == stop_after:
            stop.set(StopLevel.DRAIN)
    assert sorted([*seen, *(one.removesuffix(".py") for one in run.not_run)]) == sorted(map(name, plan))
    assert execute.broken_promises == []
    for running in execute.together:
        needs = [need_of(one) for one in running]
        assert len(running) <= count
        if len(running) > 1:
            assert sum(n.memory_bytes for n in needs) <= 1000 * MIB
            assert sum(n.millicpus for n in needs) <= 4000
            assert not any(n.exclusive for n in needs)
        groups = [n.group for n in needs if n.group]
        assert len(groups) == len(set(groups))
    assert all(position == 1 for _, a, position, _ in execute.runs if a.attempt > 1), "tried again fresh"


def test_a_failure_is_confirmed_also_while_the_run_drains(make, slots):
    """Reuse must never cause a false failure, even if the run ends early."""
    stop, events = StopFlag(), []
    execute = slots(script={"t3": [F, P], "t4": [F, F]})

    def on_event(event):
        events.append(event)
        if isinstance(event, Finished) and event.attempt.outcome is F:
            stop.set(StopLevel.DRAIN, "enough")

    run = start(plan_of(make, 30, retries=3), execute, stop=stop, count=1, on_event=on_event)
    results = {name(r.final.assignment): r for r in run}
    assert results["t3"].verb is Verb.PASS
    assert [a.outcome for a in results["t3"].attempts] == [F, P]
    assert results["t4"].verb is Verb.FAIL if "t4" in results else "t4.py" in run.not_run
    assert len(run.not_run) > 20
    (told,) = [e.next for e in events if isinstance(e, Finished) and name(e.attempt.assignment) == "t3" and e.next]
    assert "confirming in a fresh container what failed as test 4 of a reused one" in told.reason


def test_max_fail_does_not_count_a_failure_that_was_not_confirmed(make, slots):
    # a confirmation takes a fresh slot, so that the test behind it is the first of its slot, whose failure counts
    execute = slots(script={f"t{n}": [F, P] for n in (1, 3, 5)})
    run = start(plan_of(make, 20), execute, policy=Policy(max_fail=1), count=1)
    assert {r.verb for r in run} == {Verb.PASS}
    assert [position for _, assignment, position, _ in execute.runs if name(assignment) in {"t1", "t3", "t5"}] == [
        *(2, 1) * 3
    ]
    assert run.not_run == ()

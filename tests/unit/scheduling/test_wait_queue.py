from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.admission import Admission, Budget, Need
from orchestrator.scheduling.wait_queue import BACKFILL_DEPTH, QueuedTest, RunningTest, WaitQueue

BUDGET = Budget(cpus=4.0, memory_bytes=400, slots=4)


def waiting(rank, memory_bytes, seconds, **need):
    return QueuedTest(rank=rank, need=Need(cpus=0.0, memory_bytes=memory_bytes, **need), expected_seconds=seconds)


def running(memory_bytes, expected_end):
    return RunningTest(need=Need(cpus=0.0, memory_bytes=memory_bytes), expected_end=expected_end)


def taken(*runs):
    admission = Admission(budget=BUDGET)
    for one in runs:
        admission = admission.take(one.need)
    return admission


def test_the_first_in_line_starts_if_it_fits():
    queue = WaitQueue([waiting(1, 10, 1), waiting(0, 100, 9)])
    assert queue.pick(taken(running(300, 5)), [running(300, 5)], 0).rank == 0
    assert len(queue) == 1


def test_a_small_test_goes_ahead_only_if_it_ends_before_the_first_can_start():
    runs = [running(200, 10), running(100, 4)]
    queue = WaitQueue([waiting(0, 350, 9), waiting(1, 100, 11), waiting(2, 100, 10)])
    assert queue.pick(taken(*runs), runs, 0).rank == 2
    assert queue.pick(taken(*runs), runs, 0) is None, "a test of 11 s would delay the first by 1 s"


def test_a_small_test_goes_ahead_if_there_is_room_for_both():
    runs = [running(200, 10), running(50, 99)]
    queue = WaitQueue([waiting(0, 300, 90), waiting(1, 51, 50), waiting(2, 50, 50)])
    assert queue.pick(taken(*runs), runs, 0).rank == 2
    assert queue.pick(taken(*runs), runs, 0) is None


def test_a_test_that_overruns_lets_nothing_more_go_ahead():
    runs = [running(200, 10)]
    queue = WaitQueue([waiting(0, 300, 9), waiting(1, 150, 1)])
    assert queue.pick(taken(*runs), runs, 12) is None
    assert queue.pick(taken(*runs), runs, 9).rank == 1


def test_before_an_exclusive_test_only_what_ends_in_time_goes_ahead():
    runs = [running(100, 10)]
    queue = WaitQueue([waiting(0, 1, 9, exclusive=True), waiting(1, 1, 11), waiting(2, 1, 9)])
    assert queue.pick(taken(*runs), runs, 0).rank == 2
    assert queue.pick(taken(*runs), runs, 0) is None
    assert queue.pick(taken(), [], 10).rank == 0


def test_a_group_does_not_stand_in_the_way_of_others():
    many = [waiting(rank, 1, 9, group="db") for rank in range(BACKFILL_DEPTH * 2)]
    queue = WaitQueue([*many, waiting(999, 1, 1)])
    first = queue.pick(taken(), [], 0)
    assert first.rank == 0
    runs = [RunningTest(need=first.need, expected_end=9)]
    assert queue.pick(taken(*runs), runs, 0).rank == 999
    assert queue.head is None
    assert len(queue) == len(list(queue)) == len(many) - 1
    queue.release("db")
    assert queue.head.rank == 1


def test_a_test_that_returns_waits_for_its_group_in_its_old_place():
    queue = WaitQueue([waiting(0, 1, 9, group="db"), waiting(1, 1, 9, group="db"), waiting(2, 1, 9, group="db")])
    first = queue.pick(taken(), [], 0)
    queue.release("db")
    queue.add(first)
    assert queue.pick(taken(), [], 0).rank == 1
    queue.release("db")
    assert queue.pick(taken(), [], 0).rank == 0


def test_while_plenty_is_left_the_test_that_fills_most_goes_first():
    many = [waiting(rank, 10, 5) for rank in range(10, 999)]
    queue = WaitQueue([waiting(0, 100, 9), waiting(1, 200, 6), *many])
    assert not queue.has_precedence(BUDGET)
    assert queue.pick(taken(), [], 0).rank == 1, "200 bytes for 6 s are more than 100 for 9 s"
    runs = [running(350, 5)]
    assert queue.pick(taken(*runs), runs, 0).rank == 10, "no gap is left for the first in line, which does not fit"


def test_the_first_in_line_gets_precedence_before_it_would_be_the_last():
    queue = WaitQueue([waiting(0, 350, 9), *(waiting(rank, 100, 4) for rank in range(1, 40))])
    runs, overtaken = [running(200, 4)], 0
    while queue.pick(taken(*runs), runs, 0).rank != 0:
        overtaken += 1
        if queue.has_precedence(BUDGET):
            runs = []
    left = len(queue)
    assert overtaken > 20
    assert left * 100 * 4 / 400 >= 9, "as much is left as fills the machine while the first one runs"


tests = st.lists(
    st.tuples(
        st.integers(1, 900),  # memory, up to more than twice the budget
        st.floats(0, 5, allow_nan=False),  # cpus
        st.floats(0.1, 20),  # expected seconds
        st.floats(0.1, 3),  # really takes so many times as long
        st.booleans(),
        st.sampled_from([None, None, "db"]),
    ),
    min_size=1,
    max_size=25,
)


@given(tests)
def test_every_test_starts_and_none_is_made_to_wait_beyond_what_ran_at_its_expected_start(drawn):
    """Play a whole run with wrong estimates. A head with precedence starts at the latest when the tests that ran
    when it got precedence have ended, and those that were backfilled in time.
    """
    real = {}
    queue = WaitQueue()
    for rank, (memory_bytes, cpus, seconds, factor, exclusive, group) in enumerate(drawn):
        need = Need(cpus=cpus, memory_bytes=memory_bytes, exclusive=exclusive, group=group)
        queue.add(QueuedTest(rank=rank, need=need, expected_seconds=seconds))
        real[rank] = seconds * factor
    longest_real = max(real.values())
    longest_expected = max(one.expected_seconds for one in queue)
    now, admission, runs, ends, started = 0.0, Admission(budget=BUDGET), {}, [], set()
    head, head_since = None, 0.0
    while len(queue) or ends:
        while (one := queue.pick(admission, runs.values(), now)) is not None:
            admission = admission.take(one.need)
            assert admission.running == 1 or (
                admission.memory_bytes <= BUDGET.memory_bytes and admission.running <= BUDGET.slots
            )
            runs[one.rank] = RunningTest(need=one.need, expected_end=now + one.expected_seconds)
            heappush(ends, (now + real[one.rank], one.rank))
            started.add(one.rank)
            if head is not None and one.rank < head.rank:
                head_since = now  # no overtaking: it was further up in order, and waited for its group
        if queue.head is not head or not queue.has_precedence(BUDGET):
            head, head_since = queue.head, now
        elif head is not None:
            assert now - head_since <= longest_expected + 2 * longest_real
        assert ends, "tests wait, and nothing runs"
        now, rank = heappop(ends)
        need = runs.pop(rank).need
        admission = admission.give(need)
        queue.release(need.group)
    assert started == set(real)

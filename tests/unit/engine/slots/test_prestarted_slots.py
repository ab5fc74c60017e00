from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine.slots.prestarted_slots import RETIRED_PER_REMOVER, PrestartedSlots, worker_counts
from orchestrator.errors import EngineError
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.model.tests import Assignment

PATIENCE_SECONDS = 10.0


class Works:
    """Where slots are opened and closed; keeps the books, and can be told to wait or to fail."""

    def __init__(self, *, seconds: float = 0.0, closing_seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.closing_seconds = closing_seconds
        self.lock = threading.Lock()
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.busy = {"open": 0, "close": 0}
        self.most = {"open": 0, "close": 0}
        self.go_on = threading.Event()
        self.go_on.set()
        self.close_on = threading.Event()
        self.close_on.set()
        self.fails: set[str] = set()

    def open(self, assignment: Assignment) -> str:
        name = f"{assignment.key} {assignment.attempt}"
        self._enter("open")
        try:
            assert self.go_on.wait(PATIENCE_SECONDS)
            time.sleep(self.seconds)
            if assignment.key in self.fails:
                raise EngineError(f"no slot for {assignment.key}")
            with self.lock:
                self.opened.append(name)
        finally:
            self._leave("open")
        return name

    def close(self, item: str) -> None:
        self._enter("close")
        try:
            assert self.close_on.wait(PATIENCE_SECONDS)
            time.sleep(self.closing_seconds)
            with self.lock:
                self.closed.append(item)
        finally:
            self._leave("close")
        if item.split(" ", maxsplit=1)[0] in self.fails:
            raise EngineError(f"{item} stays")

    def _enter(self, what: str) -> None:
        with self.lock:
            self.busy[what] += 1
            self.most[what] = max(self.most[what], self.busy[what])

    def _leave(self, what: str) -> None:
        with self.lock:
            self.busy[what] -= 1


def assignments_of(*names: str) -> list[Assignment]:
    return [make_assignment(path=name) for name in names]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def pool_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("orch-slot-")]


@pytest.fixture
def works() -> Iterator[Works]:
    yield Works()
    assert pool_threads() == []


def pool_of(works: Works, *, max_ahead: int = 2, starters: int = 2, removers: int = 1) -> PrestartedSlots[str]:
    return PrestartedSlots(works.open, works.close, max_ahead=max_ahead, starters=starters, removers=removers)


def test_a_prepared_slot_is_there_when_it_is_taken_and_closed_behind(works: Works) -> None:
    pool = pool_of(works)
    first, second = assignments_of("a", "b")
    pool.prepare([first, second])
    until(lambda: len(works.opened) == 2)
    assert pool.take(first) == "a 1"
    assert pool.take(second) == "b 1"
    pool.retire("a 1")
    until(lambda: works.closed == ["a 1"])
    pool.retire("b 1")
    pool.close()
    assert sorted(works.closed) == ["a 1", "b 1"]
    assert len(works.opened) == 2


def test_no_more_than_ahead_are_open_untaken_and_in_the_order_given(works: Works) -> None:
    pool = pool_of(works, max_ahead=2, starters=1)
    line = assignments_of("a", "b", "c", "d")
    pool.prepare(line)
    until(lambda: len(works.opened) == 2)
    time.sleep(0.05)
    assert works.opened == ["a 1", "b 1"]
    pool.take(line[1])
    until(lambda: len(works.opened) == 3)
    assert works.opened == ["a 1", "b 1", "c 1"]
    pool.close()
    assert sorted(works.closed) == ["a 1", "c 1"]


def test_nothing_is_opened_ahead_where_that_is_not_wanted(works: Works) -> None:
    pool = pool_of(works, max_ahead=0)
    (only,) = assignments_of("a")
    pool.prepare([only])
    assert pool_threads() == []
    assert pool.take(only) == "a 1"
    pool.close()
    assert works.closed == []


def test_who_takes_a_slot_that_is_being_opened_waits_for_that_one(works: Works) -> None:
    works.go_on.clear()
    pool = pool_of(works)
    (only,) = assignments_of("a")
    pool.prepare([only])
    until(lambda: works.busy["open"] == 1)
    threading.Timer(0.05, works.go_on.set).start()
    assert pool.take(only) == "a 1"
    assert works.most["open"] == 1
    pool.close()


def test_attempts_of_a_test_have_slots_of_their_own(works: Works) -> None:
    pool = pool_of(works)
    pool.prepare([make_assignment(path="a", attempt=1), make_assignment(path="a", attempt=2)])
    until(lambda: len(works.opened) == 2)
    assert pool.take(make_assignment(path="a", attempt=2)) == "a 2"
    pool.close()
    assert works.closed == ["a 1"]


def test_a_hint_that_comes_late_or_twice_opens_nothing(works: Works) -> None:
    pool = pool_of(works, max_ahead=4)
    first, second = assignments_of("a", "b")
    pool.take(first)
    pool.prepare([first, second, second])
    until(lambda: len(works.opened) == 2)
    pool.prepare([first, second])
    time.sleep(0.05)
    assert works.opened == ["a 1", "b 1"]
    pool.close()
    assert works.closed == ["b 1"]


def test_what_is_no_longer_in_the_list_is_not_opened_but_kept_if_it_is(works: Works) -> None:
    works.go_on.clear()
    pool = pool_of(works, max_ahead=3, starters=1)
    a, b, c = assignments_of("a", "b", "c")
    pool.prepare([a, b])
    until(lambda: works.busy["open"] == 1)
    pool.prepare([c])
    works.go_on.set()
    until(lambda: len(works.opened) == 2)
    assert works.opened == ["a 1", "c 1"]
    assert pool.take(a) == "a 1"
    pool.close()
    assert works.closed == ["c 1"]


@pytest.mark.parametrize("prepared", [True, False])
def test_what_opening_raised_is_the_takers(works: Works, *, prepared: bool) -> None:
    works.fails = {"a"}
    pool = pool_of(works, max_ahead=1, starters=1)
    a, b = assignments_of("a", "b")
    if prepared:
        pool.prepare([a, b])
        until(lambda: works.opened == ["b 1"])  # the failed one takes no room
    with pytest.raises(EngineError, match="no slot for a"):
        pool.take(a)
    assert pool.take(b) == "b 1"
    pool.close()
    assert works.closed == []


def test_a_close_that_fails_stops_nothing(works: Works) -> None:
    pool = pool_of(works)
    works.fails = {"a"}
    pool.retire("a 1")
    pool.retire("b 1")
    pool.close()
    assert sorted(works.closed) == ["a 1", "b 1"]


def test_retiring_waits_only_where_too_many_wait(works: Works) -> None:
    works.close_on.clear()
    pool = pool_of(works)
    for number in range(RETIRED_PER_REMOVER + 1):  # one of them is being closed
        pool.retire(str(number))
        until(lambda: works.busy["close"] == 1)
    late = threading.Thread(target=pool.retire, args=("late",))
    late.start()
    late.join(0.1)
    assert late.is_alive()
    works.close_on.set()
    late.join(PATIENCE_SECONDS)
    assert not late.is_alive()
    pool.close()
    assert sorted(works.closed) == ["0", "1", "2", "3", "4", "late"]


def test_at_the_end_as_many_are_removed_at_once_as_were_opened_and_removed_before(works: Works) -> None:
    works.close_on.clear()
    pool = pool_of(works, starters=3, removers=1)
    for number in range(5):
        pool.retire(str(number))
    until(lambda: works.busy["close"] == 1)
    closing = threading.Thread(target=pool.close)
    closing.start()
    until(lambda: works.busy["close"] == 4)
    works.close_on.set()
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()
    assert (sorted(works.closed), works.most["close"]) == (["0", "1", "2", "3", "4"], 4)


def test_closing_while_slots_are_being_opened_leaves_nothing(works: Works) -> None:
    works.go_on.clear()
    pool = pool_of(works, max_ahead=4, starters=2)
    pool.prepare(assignments_of("a", "b", "c", "d"))
    until(lambda: works.busy["open"] == 2)
    threading.Timer(0.05, works.go_on.set).start()
    pool.close()
    assert sorted(works.opened) == sorted(works.closed) == ["a 1", "b 1"]
    pool.close()
    assert len(works.closed) == 2


def test_a_closed_pool_opens_nothing_and_still_closes_what_was_taken(works: Works) -> None:
    pool = pool_of(works)
    a, b = assignments_of("a", "b")
    taken = pool.take(a)
    pool.close()
    pool.prepare([b])
    with pytest.raises(EngineError, match="run is ending"):
        pool.take(b)
    pool.retire(taken)
    assert works.closed == ["a 1"]
    assert works.opened == ["a 1"]


def test_who_waits_for_a_turn_when_the_pool_closes_is_told(works: Works) -> None:
    works.go_on.clear()
    pool = pool_of(works, starters=1)
    a, b = assignments_of("a", "b")
    told: list[str] = []

    def take(assignment: Assignment) -> None:
        try:
            told.append(pool.take(assignment))
        except EngineError as error:
            told.append(error.message)

    first = threading.Thread(target=take, args=(a,))
    first.start()
    until(lambda: works.busy["open"] == 1)
    second = threading.Thread(target=take, args=(b,))
    second.start()
    pool.close()
    second.join(PATIENCE_SECONDS)
    works.go_on.set()
    first.join(PATIENCE_SECONDS)
    assert sorted(told) == ["a 1", "no slot is opened any more: the run is ending"]
    pool.retire("a 1")
    assert works.closed == ["a 1"]


def test_a_slot_that_is_needed_now_goes_before_those_ahead(works: Works) -> None:
    works.go_on.clear()
    pool = pool_of(works, max_ahead=3, starters=1)
    a, b, now = assignments_of("a", "b", "now")
    pool.prepare([a, b])
    until(lambda: works.busy["open"] == 1)
    taker = threading.Thread(target=pool.take, args=(now,))
    taker.start()
    until(lambda: pool._waiting_takers == 1)
    works.go_on.set()
    taker.join(PATIENCE_SECONDS)
    until(lambda: len(works.opened) == 3)
    assert works.opened == ["a 1", "now 1", "b 1"]
    pool.close()


@pytest.mark.parametrize(
    ("cpus", "expected"), [(0, (1, 1)), (1, (1, 1)), (2, (3, 1)), (8, (14, 2)), (64, (110, 18))]
)
def test_workers_grow_with_the_engines_cpus(cpus: int, expected: tuple[int, int]) -> None:
    assert worker_counts(cpus) == expected


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 30),
    max_ahead=st.integers(0, 4),
    starters=st.integers(1, 3),
    removers=st.integers(1, 3),
    lanes=st.integers(1, 4),
    stop_after=st.one_of(st.none(), st.integers(0, 30)),
)
def test_whatever_happens_each_slot_is_closed_once_and_limits_hold(
    seed: int, max_ahead: int, starters: int, removers: int, lanes: int, stop_after: int | None
) -> None:
    """Lanes take tests from one line, some of which fail, with hints that are wrong now and then, and a stop at
    any time.
    """
    chance = random.Random(seed)
    works = Works(seconds=0.0005, closing_seconds=0.0003)
    line = assignments_of(*(f"t{number}" for number in range(30)))
    works.fails = {test.key for test in line if chance.random() < 0.1}
    pool = pool_of(works, max_ahead=max_ahead, starters=starters, removers=removers)
    left = list(reversed(line))
    taken: list[str] = []
    refused: list[str] = []
    lock = threading.Lock()

    def lane(chance: random.Random) -> None:
        while True:
            with lock:
                if not left:
                    return
                assignment = left.pop()
                hint = list(reversed(left[-6:]))
            chance.shuffle(hint)
            pool.prepare(hint)
            try:
                item = pool.take(assignment)
            except EngineError as error:
                refused.append(error.message)
                continue
            assert item == f"{assignment.key} 1"
            with lock:
                taken.append(item)
                stop = len(taken) == stop_after
            if stop:
                pool.close()
            pool.retire(item)

    threads = [threading.Thread(target=lane, args=(random.Random(chance.random()),)) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    pool.close()
    assert sorted(works.closed) == sorted(works.opened)
    assert len(set(works.opened)) == len(works.opened)
    assert len(taken) + len(refused) == 30
    assert works.most["open"] <= starters
    # at its end nothing is opened any more, and each lane closes what it had itself
    assert works.most["close"] <= removers + starters + (lanes if stop_after is not None else 0)
    if stop_after is None:
        assert len(refused) == len(works.fails)
    assert pool_threads() == []

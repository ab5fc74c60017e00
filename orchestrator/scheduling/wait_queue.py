"""The wait queue: choose which test starts next, from the free resources and the expected durations. Pure.

Two rules apply, one after the other (docs/design/scheduling/backfilling.md has the measurements):

While much work is left, the test starts that fills most of the machine for the longest time: among the first tests
in the queue that fit, the one with the largest area (share of the scarcest resource times expected seconds). The
head of the queue, the longest test of all, may have to wait meanwhile: if others waited for it, the machine would
be partly idle.

Once the remaining work would take less than `PRECEDENCE` times as long as the head alone, the head has precedence:
it starts as soon as it fits, and a later test may start before it (backfilling) only if that cannot delay it,
because the later test is expected to end in time or there is room for both. This is the EASY backfilling of batch
schedulers (Lifka, "The ANL/IBM SP scheduling system", 1995). It keeps long tests from running alone at the end of
a run. Estimates may be wrong: a test that overruns counts as ending now, so that no test with a positive expected
duration is backfilled because of it.
"""

from __future__ import annotations

import posixpath
from bisect import bisect, insort
from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from orchestrator.scheduling.admission import is_forked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Admission, Budget, Need

BACKFILL_DEPTH = 128
"""The number of queued tests that are examined for each start; bounds the cost with long queues."""

PRECEDENCE = 2.0
"""The head has precedence once the remaining work takes less than this many times its expected duration."""

_RANK = attrgetter("rank")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedTest:
    """A test that waits to be started."""

    rank: int
    """Position in the queue, unique; the lowest rank is the head."""
    need: Need
    expected_seconds: float
    slot_key: object = None
    """Key of the slots in which the test can run; equal for tests that can share a slot. None: it needs a fresh
    one.
    """
    opening_seconds: float = 0.0
    """The time until a new slot is ready for its first test."""
    reused_seconds: float = 0.0
    """The expected duration in a slot that other tests have used before."""
    may_queue_ahead: bool = False
    """True if the test may be submitted to a worker that still runs another test, and other tests behind it."""


@dataclass(slots=True, eq=False)
class SlotClass:
    """All tests that can run in the same reused slots."""

    slot_key: object
    opening_seconds: float
    queued_seconds: float = 0.0
    """The sum of `reused_seconds` of the tests in the queue."""
    opened: int = 0
    """The largest number of these tests that ran at one time, which is the number of open slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTest:
    """The needs of one busy worker, which are taken from the budget now."""

    need: Need
    expected_end: float
    """The expected end, on the same clock as the `now` of `WaitQueue.pick`."""


class WaitQueue:
    """The tests that wait, ordered by rank.

    Only one test of each group is in the queue proper; the others are parked until it has ended, so that a large
    group does not fill the front of the queue with tests that cannot start.
    """

    def __init__(self, tests: Iterable[QueuedTest] = ()) -> None:
        self._ready: deque[QueuedTest] = deque()
        self._parked: dict[str, list[QueuedTest]] = {}
        """Group with a test that is queued or running -> its other tests, by rank."""
        self._least_millicpus = self._least_bytes = 1 << 62
        """The least that any test of this queue has needed: if less than this is free, nothing fits."""
        self._work = [0.0, 0.0, 0.0]
        """Millicpu seconds, byte seconds and seconds of the queued tests, exclusive ones not counted."""
        self._first_added: tuple[Need, float] | None = None
        self._mixed = False
        """True if tests with different needs or expected durations were ever added."""
        self.slot_classes: list[SlotClass] = []
        """The classes of reused slots: one for each profile, so the list is short."""
        for one in sorted(tests, key=_RANK):
            self.add(one)

    def __len__(self) -> int:
        return len(self._ready) + sum(map(len, self._parked.values()))

    def __iter__(self) -> Iterator[QueuedTest]:
        yield from self._ready
        for parked in self._parked.values():
            yield from parked

    @property
    def head(self) -> QueuedTest | None:
        """The queued test with the lowest rank; None if no test is queued or all are parked."""
        return self._ready[0] if self._ready else None

    def first(self, count: int) -> Iterator[QueuedTest]:
        """Iterate over the first `count` tests of the queue."""
        return islice(self._ready, count)

    def add(self, test: QueuedTest) -> None:
        """Insert a test at its rank."""
        need = test.need
        self._least_millicpus = min(self._least_millicpus, need.millicpus)
        self._least_bytes = min(self._least_bytes, need.memory_bytes)
        self._count(test, 1)
        if not self._mixed:
            added = need, test.expected_seconds
            self._first_added = self._first_added or added
            self._mixed = added != self._first_added
        if need.group is not None:
            if need.group in self._parked:
                insort(self._parked[need.group], test, key=_RANK)
                return
            self._parked[need.group] = []
        self._insert(test)

    def retain(self, predicate: Callable[[QueuedTest], bool]) -> None:
        """Remove all tests for which `predicate` is false."""
        self._rebuild([one for one in self if predicate(one)])

    def update(self, changed: Callable[[QueuedTest], QueuedTest]) -> None:
        """Replace each test with what `changed` returns for it, which must have the same rank and group."""
        self._rebuild([changed(one) for one in self])

    def _rebuild(self, tests: Iterable[QueuedTest]) -> None:
        running = self._parked.keys() - {one.need.group for one in self._ready}
        self._ready.clear()
        self._work = [0.0, 0.0, 0.0]
        for slot_class in self.slot_classes:
            slot_class.queued_seconds = 0.0
        self._parked = {group: [] for group in running}
        for one in sorted(tests, key=_RANK):
            self.add(one)

    def _insert(self, test: QueuedTest) -> None:
        """Insert a test by rank; fast at both ends, where nearly all insertions happen."""
        ready, rank = self._ready, test.rank
        if not ready or rank > ready[-1].rank:
            ready.append(test)
        elif rank < ready[0].rank:
            ready.appendleft(test)
        else:
            ready.insert(bisect(ready, rank, key=_RANK), test)

    def release(self, group: str | None) -> None:
        """Move the next test of a group into the queue, after its running one has ended. None: do nothing."""
        if group is None:
            return
        parked = self._parked[group]
        if parked:
            self._insert(parked.pop(0))
        else:
            del self._parked[group]

    def take_head(self) -> QueuedTest:
        """Remove and return the head; the queue must not be empty."""
        return self._take(0)

    def class_of(self, slot_key: object) -> SlotClass | None:
        """Return the class of slots with this key; None for fresh slots and for a key that was never queued."""
        if slot_key is None:
            return None
        return next(
            (one for one in self.slot_classes if one.slot_key is slot_key or one.slot_key == slot_key), None
        )

    def pick(
        self, admission: Admission, running: Iterable[RunningTest], now: float, blocked: Collection[SlotClass] = ()
    ) -> QueuedTest | None:
        """Remove and return the test that starts now; None: no test may start.

        `running` has the needs that `admission` counts; it is read only if the head has precedence and does not
        fit while another test does. Tests of the classes in `blocked` are ignored and stay in the queue.
        """
        if not self._ready or admission.full:
            return None
        first = self._first_not_blocked(blocked)
        if first is None:
            return None
        fits = admission.fits(self._ready[first].need)
        if fits and not self._mixed:
            return self._take(first)
        millicpus, memory_bytes = admission.room
        if not fits and (millicpus < self._least_millicpus or memory_bytes < self._least_bytes):
            return None
        if not self.has_precedence(admission.budget):
            index = self._largest_fitting(admission, blocked)
        else:
            index = first if fits else self._backfill(admission, running, now, first, blocked)
        return None if index is None else self._take(index)

    def _first_not_blocked(self, blocked: Collection[SlotClass]) -> int | None:
        """Return the index of the first test whose class is not blocked; None if there is none."""
        if not blocked:
            return 0
        places = enumerate(islice(self._ready, BACKFILL_DEPTH))
        return next((index for index, one in places if not self._is_blocked(one, blocked)), None)

    def _is_blocked(self, test: QueuedTest, blocked: Collection[SlotClass]) -> bool:
        return bool(blocked) and self.class_of(test.slot_key) in blocked

    def has_precedence(self, budget: Budget) -> bool:
        """Return whether no test may start that would delay the head."""
        return not self._ready or self._seconds_left(budget) <= PRECEDENCE * self._ready[0].expected_seconds

    def _largest_fitting(self, admission: Admission, blocked: Collection[SlotClass]) -> int | None:
        """Return the index of the test, among the first that fit, with the largest area; None if none fits."""
        millicpus, memory_bytes = admission.room
        idle = admission.running == 0
        per_millicpu, per_byte = 1e-3 / admission.budget.cpus, 1 / admission.budget.memory_bytes
        most = max(millicpus * per_millicpu, memory_bytes * per_byte)
        found, largest = None, -1.0
        for index, one in enumerate(islice(self._ready, BACKFILL_DEPTH)):
            need = one.need
            if (need.millicpus > millicpus or need.memory_bytes > memory_bytes) and not idle:
                continue
            area = one.expected_seconds * max(need.millicpus * per_millicpu, need.memory_bytes * per_byte)
            plain = need.group is None and not need.exclusive
            if area > largest and (plain or admission.fits(need)) and not self._is_blocked(one, blocked):
                found, largest = index, area
            if largest >= one.expected_seconds * most and not idle:
                break  # the queue is sorted by duration: no later test can have a larger area
        return found

    def _backfill(
        self,
        admission: Admission,
        running: Iterable[RunningTest],
        now: float,
        first: int,
        blocked: Collection[SlotClass],
    ) -> int | None:
        """Return the index of the first test that fits and does not delay the one at `first`, which
        does not fit.
        """
        millicpus, memory_bytes = admission.room
        reserved: tuple[float, Admission] | None = None
        for index, one in enumerate(islice(self._ready, first + 1, first + 1 + BACKFILL_DEPTH), first + 1):
            need = one.need
            if need.millicpus > millicpus or need.memory_bytes > memory_bytes or not admission.fits(need):
                continue
            if self._is_blocked(one, blocked):
                continue
            if reserved is None:
                reserved = _reserve(self._ready[first].need, admission, running, now)
            if now + one.expected_seconds <= reserved[0] or reserved[1].fits(need):
                return index
        return None

    def _seconds_left(self, budget: Budget) -> float:
        """Return a lower bound of the time that the queued tests take, exclusive ones not counted."""
        millicpu_seconds, byte_seconds, seconds = self._work
        return max(
            millicpu_seconds / (1000 * budget.cpus), byte_seconds / budget.memory_bytes, seconds / budget.slots
        )

    def _take(self, index: int) -> QueuedTest:
        test = self._ready[index]
        del self._ready[index]
        self._count(test, -1)
        return test

    def _count(self, test: QueuedTest, sign: int) -> None:
        """Add a test to the sums of queued work, or subtract it with `sign` -1."""
        need, work = test.need, self._work
        if test.slot_key is not None:
            slot_class = self.class_of(test.slot_key)
            if slot_class is None:
                slot_class = SlotClass(test.slot_key, test.opening_seconds)
                self.slot_classes.append(slot_class)
            slot_class.queued_seconds += sign * test.reused_seconds
        if not need.exclusive:
            seconds = sign * test.expected_seconds
            work[0] += seconds * need.millicpus
            work[1] += seconds * need.memory_bytes
            work[2] += seconds


def _reserve(
    need: Need, admission: Admission, running: Iterable[RunningTest], now: float
) -> tuple[float, Admission]:
    """Return when a test that does not fit now is expected to start, and the admission state then with it."""
    start_at = now
    for one in sorted(running, key=attrgetter("expected_end")):
        admission = admission.give(one.need)
        start_at = max(now, one.expected_end)
        if admission.fits(need):
            break
    return start_at, admission.take(need)


BRIEF_SECONDS = 0.25
BRIEF_SHARE = 1 / 200
"""The longest duration of a brief test, absolute and as a share of the time of all tests. Its position in the
order of length does not change the duration of the run.
"""


def expected_seconds(assignment: Assignment) -> float:
    """Return the expected duration of a test: the p95 of its history, else its timeout as the only known bound."""
    timeout_seconds = assignment.profile.limits.timeout_seconds
    if assignment.history is None:
        return timeout_seconds
    return min(assignment.history.duration_seconds_p95, timeout_seconds)


def longest_first(plan: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Return the assignments in queue order: the longest first, then by memory limit, CPU limit and given order.

    Brief tests that are forked from a preloaded runner count as equally long and are grouped by folder, the folder
    with the most work first: a slot keeps the preloaded runners of a few folders only, and starting one takes
    longer than such a test. At the end of a run this costs less than the duration of one of them.

    Exclusive tests come last: each of them needs the whole machine, so the machine is emptied once for all of them
    and not once for each.
    """
    tests = tuple(plan)
    brief = max(BRIEF_SECONDS, BRIEF_SHARE * sum(map(expected_seconds, tests)))
    work: defaultdict[str, float] = defaultdict(float)
    for one in tests:
        if is_forked(one):
            work[_folder(one)] += min(expected_seconds(one), brief)

    def key(one: Assignment) -> tuple[object, ...]:
        seconds, forked = expected_seconds(one), is_forked(one)
        folder = _folder(one) if forked else ""
        limits = one.profile.limits
        leading = max(seconds, brief) if forked else seconds
        return one.exclusive, -leading, -limits.memory_bytes, -limits.cpus, -work[folder], folder, -seconds

    return tuple(sorted(tests, key=key))


def _folder(assignment: Assignment) -> str:
    return posixpath.dirname(assignment.test.id.path)

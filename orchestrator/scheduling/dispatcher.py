"""The dispatcher: decide which worker runs which test, and which tests are queued ahead. Pure, on any clock.

A worker runs tests one after another. A *queued-ahead* test is submitted to a worker before the worker's current
test has ended, so that a reused slot never waits for the scheduler. It takes over its predecessor's share of the
budget: a worker holds the largest need of all its tests. Only the head of the wait queue is queued ahead, so no
other test is overtaken. A queued-ahead test that its worker has not started yet is put back into the wait queue as
soon as it could start elsewhere (docs/design/scheduling/queued-ahead.md).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.model.suites import Preload
from orchestrator.scheduling.admission import Admission, Budget, Need, need_of
from orchestrator.scheduling.wait_queue import QueuedTest, RunningTest, SlotClass, WaitQueue, expected_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from orchestrator.model.tests import Assignment

QUEUED_AHEAD = 4
"""The number of tests queued ahead for each worker, whatever is known of their durations."""

MOST_QUEUED_AHEAD = 24
BACKLOG_SECONDS = 0.12
"""The work that is queued ahead for a worker whose recent tests are short, with at most `MOST_QUEUED_AHEAD` tests.
Results can then be recorded in batches, which costs less (docs/design/scheduling/queued-ahead.md).
"""

BRIEF_SECONDS = 0.05
"""The expected duration of a running test from which on a test queued ahead behind it may not need more than it
does. The worker would hold more than it uses, which delays other tests longer than a wait for the scheduler
(docs/design/scheduling/queued-ahead.md). The rule does not apply if all slots are taken, because no other test
could start.
"""

LONGEST_QUEUED_AHEAD_SECONDS = 0.25
"""The longest known duration of a test that is queued ahead, or behind which another is queued. A longer one gains
nothing, and whichever test fits when it ends uses the budget better (docs/design/scheduling/queued-ahead.md).
"""

OPENING_SECONDS = 0.2
PRELOADING_SECONDS = 0.4
"""The times until a container, and a pytest in it, are ready; measured on two CPUs of which both were busy."""

_NOTHING = Need(cpus=0.0, memory_bytes=0)


@dataclass(slots=True, eq=False)
class WorkerState:
    """The tests of one worker and its share of the budget, as the scheduler's thread knows them."""

    number: int
    """Number of the worker, from 0, in the order in which workers were needed."""
    current: QueuedTest | None = None
    """The test that it runs; None: it is idle."""
    queued_ahead: deque[QueuedTest] = field(default_factory=deque)
    committed: int = 0
    """The number of queued-ahead tests that cannot be taken back any more."""
    share: Need = _NOTHING
    """The part of the budget that it holds."""
    slot_key: object = None
    """`QueuedTest.slot_key` of its last test."""
    started: float = 0.0
    pace_seconds: float = math.inf
    """The duration of its recent tests: a moving average with a half-life of two tests."""

    @property
    def backlog_seconds(self) -> float:
        """The time that its queued-ahead tests take at the present pace."""
        return len(self.queued_ahead) * self.pace_seconds if self.queued_ahead else 0.0

    @property
    def queued_ahead_seconds(self) -> float:
        """The sum of the expected durations of its queued-ahead tests."""
        return sum(one.expected_seconds for one in self.queued_ahead)

    def note_duration(self, seconds: float) -> None:
        """Add the duration of a test that has ended to the pace."""
        self.pace_seconds = seconds if self.pace_seconds == math.inf else 0.7 * self.pace_seconds + 0.3 * seconds

    def expected_end(self, now: float) -> float:
        """Return the time at which it will have run all its tests. A test that overruns counts as ending now."""
        assert self.current is not None  # noqa: S101 - only asked of busy workers
        end = self.started + self.current.expected_seconds
        if not self.queued_ahead:
            return end
        return max(end, now) + self.queued_ahead_seconds

    def needed_share(self) -> Need:
        """Return the largest need of its tests, for each resource."""
        assert self.current is not None  # noqa: S101 - only asked of busy workers
        share = self.current.need
        for one in self.queued_ahead:
            share = share.covering(one.need)
        return share


class Dispatcher:
    """The wait queue, the budget and the workers. The caller carries out the decisions and reports what ended."""

    def __init__(self, budget: Budget, tests: Iterable[QueuedTest]) -> None:
        self.admission = Admission(budget=budget)
        self.queue = WaitQueue(tests)
        self.workers: list[WorkerState] = []
        """All workers that were ever busy at one time, by number."""
        self.busy: dict[int, WorkerState] = {}
        self._idle: list[WorkerState] = []
        """The idle workers, the one that has been idle longest first."""

    def start(self, now: float) -> WorkerState | None:
        """Choose the next test that may start now; return the worker whose `current` it is. None: no test may."""
        test = self.queue.pick(self.admission, self._running(now), now, self._blocked())
        if test is None:
            return None
        worker = self._worker_for(test)
        worker.current, worker.slot_key, worker.started = test, test.slot_key, now
        worker.share = test.need
        self.admission = self.admission.take(test.need)
        self.busy[worker.number] = worker
        slot_class = self.queue.class_of(test.slot_key)
        if slot_class is not None:
            slot_class.opened = max(slot_class.opened, self._in_use(slot_class))
        return worker

    def _blocked(self) -> Sequence[SlotClass]:
        """Return the slot classes without a free slot whose queued tests end sooner in the open slots than in
        another one that would have to be opened (docs/design/engine/idle-slots.md).
        """
        return [
            one
            for one in self.queue.slot_classes
            if one.queued_seconds > 0 and not self._may_begin(one, one.queued_seconds)
        ]

    def _may_begin(self, slot_class: SlotClass, queued_seconds: float) -> bool:
        """Return whether a test of the class may start beside those that run, with that much work waiting."""
        if queued_seconds > slot_class.opening_seconds * slot_class.opened:
            return True
        in_use = self._in_use(slot_class)
        return in_use == 0 or in_use < slot_class.opened

    def _in_use(self, slot_class: SlotClass) -> int:
        key = slot_class.slot_key
        return sum(worker.slot_key is key or worker.slot_key == key for worker in self.busy.values())

    def queue_ahead(self, now: float) -> WorkerState | None:
        """Move the head of the queue behind a busy worker's tests; return that worker. None: not possible now."""
        head = self.queue.head
        if head is None or not head.may_queue_ahead:
            return None
        able = [worker for worker in self.busy.values() if self._can_queue_ahead(worker, head)]
        if not able:
            return None
        worker = able[0] if len(able) == 1 else min(able, key=lambda worker: worker.expected_end(now))
        worker.queued_ahead.append(self.queue.take_head())
        self._set_share(worker, worker.share.covering(head.need))
        return worker

    def ended(self, worker: WorkerState, now: float, took_seconds: float | None = None) -> QueuedTest | None:
        """Record that the worker's current test has ended; return the queued-ahead test that it runs now, or None.

        `took_seconds` is the test's duration where it is known better than as the time since its start.
        """
        assert worker.current is not None  # noqa: S101 - an idle worker has nothing that could end
        worker.note_duration(now - worker.started if took_seconds is None else took_seconds)
        self.queue.release(worker.current.need.group)
        if worker.queued_ahead:
            worker.current, worker.started = worker.queued_ahead.popleft(), now
            worker.committed = max(0, worker.committed - 1)
            if not worker.current.need.covers(worker.share):
                self._set_share(worker, worker.needed_share())
            return worker.current
        self.admission = self.admission.give(worker.share)
        worker.current, worker.share = None, _NOTHING
        del self.busy[worker.number]
        self._idle.append(worker)
        return None

    def has_work(self, seconds: float) -> bool:
        """Return whether the queued-ahead tests of every busy worker take at least that long."""
        return all(worker.backlog_seconds >= seconds for worker in self.busy.values())

    def stealable(self) -> WorkerState | None:
        """Return a worker with a queued-ahead test that could start elsewhere now and is next by rank;
        else None.
        """
        if self.admission.full:
            return None
        head = self.queue.head
        for worker in self.busy.values():
            if len(worker.queued_ahead) > worker.committed:
                first = worker.queued_ahead[worker.committed]
                if (head is None or first.rank < head.rank) and self.admission.fits(first.need):
                    one = self.queue.class_of(first.slot_key)
                    if one is None or self._may_begin(one, one.queued_seconds + worker.queued_ahead_seconds):
                        return worker
        return None

    def requeue(self, worker: WorkerState, ranks: Collection[int]) -> None:
        """Put these queued-ahead tests of the worker back into the queue; it keeps all others to the end."""
        returned = [one for one in worker.queued_ahead if one.rank in ranks]
        worker.queued_ahead = deque(one for one in worker.queued_ahead if one.rank not in ranks)
        worker.committed = len(worker.queued_ahead)
        self._set_share(worker, worker.needed_share())
        for one in reversed(returned):
            self.queue.add(one)

    def add(self, test: QueuedTest) -> None:
        """Insert a test into the queue at its rank."""
        self.queue.add(test)

    def retain(self, predicate: Callable[[QueuedTest], bool]) -> None:
        """Remove all tests from the queue for which `predicate` is false."""
        self.queue.retain(predicate)

    def update(self, changed: Callable[[QueuedTest], QueuedTest]) -> None:
        """Replace each queued test with what `changed` returns for it, of the same rank and group."""
        self.queue.update(changed)

    def first(self, count: int) -> Iterator[QueuedTest]:
        """Iterate over the first `count` tests of the queue."""
        return self.queue.first(count)

    def _running(self, now: float) -> Iterator[RunningTest]:
        for worker in self.busy.values():
            yield RunningTest(need=worker.share, expected_end=worker.expected_end(now))

    def _can_queue_ahead(self, worker: WorkerState, test: QueuedTest) -> bool:
        """Return whether the worker can take the test now: it uses the same slot, and the budget suffices."""
        current = worker.current
        if current is None or not current.may_queue_ahead or len(worker.queued_ahead) >= MOST_QUEUED_AHEAD:
            return False
        if len(worker.queued_ahead) >= QUEUED_AHEAD and worker.backlog_seconds >= BACKLOG_SECONDS:
            return False
        if worker.slot_key is not test.slot_key and worker.slot_key != test.slot_key:
            return False
        need, share = test.need, worker.share
        if need is share:
            return True
        if current.expected_seconds > BRIEF_SECONDS and not self.admission.full:
            return need.millicpus <= share.millicpus and need.memory_bytes <= share.memory_bytes
        millicpus, memory_bytes = self.admission.room
        return (
            need.millicpus <= share.millicpus + max(millicpus, 0)
            and need.memory_bytes <= share.memory_bytes + max(memory_bytes, 0)
        )  # fmt: skip

    def _set_share(self, worker: WorkerState, share: Need) -> None:
        if share is worker.share or share == worker.share:
            return
        self.admission = self.admission.give(worker.share).take(share)
        worker.share = share

    def _worker_for(self, test: QueuedTest) -> WorkerState:
        """Return an idle worker whose slot the test can reuse, else one without a slot to lose, else the one that
        has been idle longest; a new worker if none is idle.
        """
        if not self._idle:
            worker = WorkerState(len(self.workers))
            self.workers.append(worker)
            return worker
        suitable: list[int] = []
        if test.slot_key is not None:
            suitable = [index for index, one in enumerate(self._idle) if one.slot_key == test.slot_key]
        suitable = suitable or [index for index, one in enumerate(self._idle) if one.slot_key is None]
        return self._idle.pop(suitable[-1] if suitable else 0)


def queued_test(rank: int, assignment: Assignment) -> QueuedTest:
    """Return the queue entry of an assignment.

    The recorded duration of a pytest that was the first of its slot includes the start of the preloaded runner.
    History does not say which tests those were, so that time is subtracted from all durations that are longer.
    """
    preloading = PRELOADING_SECONDS if assignment.test.command.preload is not Preload.OFF else 0.0
    reused, seconds = assignment.profile.reuse > 1, expected_seconds(assignment)
    runs_apart = assignment.exclusive or assignment.group is not None or assignment.attempt > 1
    is_short = assignment.history is None or seconds <= LONGEST_QUEUED_AHEAD_SECONDS
    return QueuedTest(
        rank=rank,
        need=need_of(assignment),
        expected_seconds=seconds,
        slot_key=assignment.profile if reused else None,
        opening_seconds=OPENING_SECONDS + preloading if reused else 0.0,
        reused_seconds=seconds - preloading if seconds > preloading else seconds,
        may_queue_ahead=reused and not runs_apart and is_short,
    )

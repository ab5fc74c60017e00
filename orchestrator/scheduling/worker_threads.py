"""The threads that execute: one for each lane, with orders in by a queue of its own, answers out by a common one,
and a reliable end.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment

    Call = Callable[[Assignment, float], Attempt]
    """The simplest executor: the assignment, and for how many seconds it queued."""
    Order = tuple[int, Assignment, float]
    """Rank, assignment, since when it waits."""

HEARTBEAT_SECONDS = 0.5
"""Longest wait in one piece. A signal that arrives just before CPython blocks does not end the wait, and its
handler runs only after it.
"""


class Lane(Protocol):
    """One place of execution. Used by one thread."""

    def run(
        self, assignment: Assignment, waits_since: float, upcoming: Callable[[], Assignment | None]
    ) -> Attempt:
        """One attempt; `waits_since` is on `time.monotonic`'s clock.

        `upcoming()`, called when the test is about to end or later, is the assignment of this lane's next
        `run`, or None if it has none yet. What it returned is certain to be the next call. It does not block.
        """
        ...

    def close(self) -> None:
        """The lane is no longer needed: gives up what it holds."""
        ...


@runtime_checkable
class Execute(Protocol):
    """Whatever runs tests."""

    def lane(self) -> Lane:
        """A place of its own for the calling thread."""
        ...

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """These are likely to start next, in this order: a hint, which must be quick."""
        ...


class Hands(Protocol):
    """What a schedule has its orders carried out by: `Workers`, or a simulation."""

    def order(self, lane: int, rank: int, assignment: Assignment, waits_since: float) -> None:
        """See `Workers`; so for all of these."""
        ...

    def take_back(self, lane: int, current: int | None) -> Collection[int]: ...  # noqa: D102
    def prepare(self, assignments: Sequence[Assignment]) -> None: ...  # noqa: D102
    def answer(self, timeout_seconds: float, linger_seconds: float = 0.0) -> Done | None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102

    @property
    def idle(self) -> bool: ...  # noqa: D102
    @property
    def error(self) -> BaseException | None: ...  # noqa: D102


class Calls:
    """Makes an `Execute` of a plain callable, which may be called from many threads."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def lane(self) -> Lane:
        """It keeps nothing, so that it may serve all threads."""
        return self

    def run(self, assignment: Assignment, waits_since: float, upcoming: object) -> Attempt:  # noqa: ARG002
        """Call it."""
        return self._call(assignment, monotonic() - waits_since)

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """It has no use for hints."""

    def close(self) -> None:
        """It holds nothing."""


@dataclass(slots=True, frozen=True)
class Done:
    """A worker's answer: exactly one of `attempt` and `error`."""

    lane: int
    rank: int
    attempt: Attempt | None
    error: BaseException | None


class Worker:
    """A lane's thread. It works its orders off one after another, without asking."""

    def __init__(
        self, number: int, execute: Execute, answers: SimpleQueue[Done], ended: Callable[[], None]
    ) -> None:
        self.number = number
        self.thread = Thread(target=self._work, name=f"orch-slot-{number + 1}")
        self.error: BaseException | None = None
        """What closing the lane raised."""
        self._execute, self._answers, self._ended = execute, answers, ended
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._next: Order | None = None
        """Taken off the queue already, because `upcoming` told of it."""
        self._last = False
        """The queue's end was met."""

    def order(self, order: Order) -> None:
        """Run this after all that was ordered before."""
        self._orders.put(order)

    def take_back(self, current: int | None = None) -> Collection[int]:
        """The ranks of the orders that it has not begun and, by this, never will: always the last ones.
        `current` stays, whether it has been begun or not.
        """
        taken: list[int] = []
        kept: list[Order] = []
        with suppress(Empty):
            while (order := self._orders.get_nowait()) is not None:
                if order[0] == current:
                    kept.append(order)
                else:
                    taken.append(order[0])
        for order in kept:
            self._orders.put(order)
        return taken

    def close(self) -> None:
        """Let it finish what it has begun."""
        self.take_back()
        self._orders.put(None)

    def _work(self) -> None:
        try:
            self._work_off()
        finally:
            self._ended()

    def _work_off(self) -> None:
        lane: Lane | None = None
        while (order := self._take()) is not None:
            rank, assignment, waits_since = order
            try:
                if lane is None:
                    lane = self._execute.lane()
                done = Done(self.number, rank, lane.run(assignment, waits_since, self._upcoming), None)
            except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
                done = Done(self.number, rank, None, error)
            failed = done.error is not None
            self._answers.put(done)
            del order, assignment, done  # an idle worker keeps no attempt alive
            if failed:
                break  # the schedule ends by it; what was ordered behind is not begun
        if lane is not None:
            try:
                lane.close()
            except BaseException as error:  # noqa: BLE001 - raised again when all have ended
                self.error = error

    def _take(self) -> Order | None:
        """The next order, awaited; None: there will be no more."""
        if self._next is not None:
            order, self._next = self._next, None
            return order
        return None if self._last else self._orders.get()

    def _upcoming(self) -> Assignment | None:
        if self._next is None and not self._last:
            try:
                self._next = self._orders.get_nowait()
            except Empty:
                return None
            self._last = self._next is None
        return None if self._next is None else self._next[1]


class Workers:
    """The threads of a schedule; as many as it has lanes."""

    def __init__(self, execute: Execute | Call) -> None:
        self._execute: Execute = execute if isinstance(execute, Execute) else Calls(execute)
        self._answers: SimpleQueue[Done] = SimpleQueue()
        self._workers: list[Worker] = []
        self._ended: list[Thread] = []
        self._ending: SimpleQueue[None] = SimpleQueue()

    def order(self, lane: int, rank: int, assignment: Assignment, waits_since: float) -> None:
        """Have it executed in a lane, after all that was ordered there before. Lanes are numbered from 0; the
        next new one is made when it is first named.
        """
        if lane == len(self._workers):
            worker = Worker(lane, self._execute, self._answers, self._note_end)
            self._workers.append(worker)  # before it starts: an interrupt in between must not orphan it
            worker.thread.start()
        self._workers[lane].order((rank, assignment, waits_since))

    def take_back(self, lane: int, current: int | None) -> Collection[int]:
        """See `Worker.take_back`."""
        return self._workers[lane].take_back(current)

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Hand the hint on."""
        self._execute.prepare(assignments)

    def answer(self, timeout_seconds: float, linger_seconds: float = 0.0) -> Done | None:
        """The next answer; None when time is up, or after a heartbeat: ask again. If there is none yet, it is not
        looked for before `linger_seconds` are over, so that several are found then.
        """
        if linger_seconds > 0 and self._answers.empty():
            sleep(linger_seconds)
        try:
            return self._answers.get(timeout=min(timeout_seconds, HEARTBEAT_SECONDS))
        except Empty:
            return None

    def close(self) -> None:
        """Let the threads finish what they have begun, and await them. Call it again if it was interrupted."""
        for worker in self._workers:
            worker.close()
        # Not by counting answers: an interrupt may have lost one that was already taken. Not by `join`:
        # before Python 3.13 a Ctrl-C in it marks a running thread as ended (`_wait_for_tstate_lock`).
        while any(w.thread.ident is not None and w.thread not in self._ended for w in self._workers):
            with suppress(Empty):
                self._ending.get(timeout=HEARTBEAT_SECONDS)
        for thread in self._ended:
            thread.join()

    @property
    def idle(self) -> bool:
        """There is no answer yet that could be had at once."""
        return self._answers.empty()

    @property
    def error(self) -> BaseException | None:
        """The first thing that closing a lane raised."""
        return next((worker.error for worker in self._workers if worker.error is not None), None)

    def _note_end(self) -> None:
        self._ended.append(current_thread())
        self._ending.put(None)

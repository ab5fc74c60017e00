"""Worker threads: run assignments one after another in each thread, and collect what they return.

Each worker has an input queue of its own; all put their results into one output queue.
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

    AttemptFunction = Callable[[Assignment, float], Attempt]
    """The simplest executor: it gets the assignment and the seconds that it was queued, and returns the attempt.
    """
    WorkItem = tuple[int, Assignment, float]
    """The rank, the assignment, and since when it has been waiting on `time.monotonic`'s clock."""

HEARTBEAT_SECONDS = 0.5
"""The longest uninterrupted wait. A signal that arrives just before CPython blocks does not end the wait, and its
handler runs only afterwards.
"""


class Lane(Protocol):
    """Runs the attempts of one worker, one after another. Used by one thread only."""

    def run(
        self, assignment: Assignment, waits_since: float, upcoming: Callable[[], Assignment | None]
    ) -> Attempt:
        """Run one attempt and return it; `waits_since` is on `time.monotonic`'s clock.

        `upcoming()` returns the assignment of this lane's next `run`, or None if there is none yet. It is called
        when the test is about to end or later, and does not block. What it returned is certain to be run next.
        """
        ...

    def close(self) -> None:
        """Release all resources that the lane holds; it is not used afterwards."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs tests, in one lane for each worker."""

    def lane(self) -> Lane:
        """Return a new lane for the calling thread."""
        ...

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Prepare for assignments that are likely to start next, in this order. Must return quickly."""
        ...


class WorkerBackend(Protocol):
    """The workers of a schedule: `WorkerPool` with real threads, or a simulation."""

    def submit(self, worker: int, rank: int, assignment: Assignment, waits_since: float) -> None:
        """Run the assignment in a worker, after all that was submitted to it before."""
        ...

    def cancel_pending(self, worker: int, current: int | None) -> Collection[int]:
        """Remove the items that the worker has not started, but for the rank `current`; return their ranks."""
        ...

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Name the assignments that are likely to start next."""
        ...

    def next_completion(self, timeout_seconds: float, linger_seconds: float = 0.0) -> Completion | None:
        """Wait for the next completion and return it; None after the timeout or earlier."""
        ...

    def close(self) -> None:
        """Wait for the end of what has been started; start nothing more."""
        ...

    @property
    def drained(self) -> bool:
        """True if no completion is available at once."""
        ...

    @property
    def error(self) -> BaseException | None:
        """The first exception that was raised when a lane was closed."""
        ...


class CallableExecutor:
    """An `Executor` made of a plain function, which may be called from many threads."""

    def __init__(self, function: AttemptFunction) -> None:
        self._function = function

    def lane(self) -> Lane:
        """Return itself: it has no state, so that all threads can share it."""
        return self

    def run(self, assignment: Assignment, waits_since: float, upcoming: object) -> Attempt:  # noqa: ARG002
        """Call the function with the assignment and the seconds that it was queued."""
        return self._function(assignment, monotonic() - waits_since)

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Do nothing: a function cannot prepare."""

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass(slots=True, frozen=True)
class Completion:
    """The end of one work item: exactly one of `attempt` and `error` is set."""

    worker: int
    rank: int
    attempt: Attempt | None
    error: BaseException | None


class WorkerThread:
    """A thread that runs its work items one after another in a lane of its own."""

    def __init__(
        self, number: int, executor: Executor, completions: SimpleQueue[Completion], ended: Callable[[], None]
    ) -> None:
        self.number = number
        self.thread = Thread(target=self._work, name=f"orch-slot-{number + 1}")
        self.error: BaseException | None = None
        """The exception that was raised when the lane was closed."""
        self._executor, self._completions, self._ended = executor, completions, ended
        self._items: SimpleQueue[WorkItem | None] = SimpleQueue()
        self._next: WorkItem | None = None
        """The item that `upcoming` has already taken off the queue."""
        self._last = False
        """True if the end mark of the queue was read."""

    def submit(self, item: WorkItem) -> None:
        """Run this item after all that were submitted before."""
        self._items.put(item)

    def cancel_pending(self, current: int | None = None) -> Collection[int]:
        """Remove the items that have not been started and return their ranks: always the last ones submitted.

        The item of rank `current` is kept, whether it has been started or not.
        """
        cancelled: list[int] = []
        kept: list[WorkItem] = []
        with suppress(Empty):
            while (item := self._items.get_nowait()) is not None:
                if item[0] == current:
                    kept.append(item)
                else:
                    cancelled.append(item[0])
        for item in kept:
            self._items.put(item)
        return cancelled

    def close(self) -> None:
        """End the thread after what it has started; cancel the rest."""
        self.cancel_pending()
        self._items.put(None)

    def _work(self) -> None:
        try:
            self._run_items()
        finally:
            self._ended()

    def _run_items(self) -> None:
        lane: Lane | None = None
        while (item := self._take()) is not None:
            rank, assignment, waits_since = item
            try:
                if lane is None:
                    lane = self._executor.lane()
                done = Completion(self.number, rank, lane.run(assignment, waits_since, self._upcoming), None)
            except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
                done = Completion(self.number, rank, None, error)
            failed = done.error is not None
            self._completions.put(done)
            del item, assignment, done  # so that an idle worker keeps no attempt in memory
            if failed:
                break  # the error ends the schedule; the remaining items must not start
        if lane is not None:
            try:
                lane.close()
            except BaseException as error:  # noqa: BLE001 - raised again when all have ended
                self.error = error

    def _take(self) -> WorkItem | None:
        """Wait for the next item and return it; None at the end of the queue."""
        if self._next is not None:
            item, self._next = self._next, None
            return item
        return None if self._last else self._items.get()

    def _upcoming(self) -> Assignment | None:
        if self._next is None and not self._last:
            try:
                self._next = self._items.get_nowait()
            except Empty:
                return None
            self._last = self._next is None
        return None if self._next is None else self._next[1]


class WorkerPool:
    """The worker threads of a schedule."""

    def __init__(self, executor: Executor | AttemptFunction) -> None:
        self._executor: Executor = executor if isinstance(executor, Executor) else CallableExecutor(executor)
        self._completions: SimpleQueue[Completion] = SimpleQueue()
        self._workers: list[WorkerThread] = []
        self._ended: list[Thread] = []
        self._ending: SimpleQueue[None] = SimpleQueue()

    def submit(self, worker: int, rank: int, assignment: Assignment, waits_since: float) -> None:
        """Run the assignment in a worker, after all that was submitted to it before.

        Workers are numbered from 0; the next new one is created when its number is first used.
        """
        if worker == len(self._workers):
            new = WorkerThread(worker, self._executor, self._completions, self._note_end)
            self._workers.append(new)  # before it starts, so that an interrupt in between cannot lose it
            new.thread.start()
        self._workers[worker].submit((rank, assignment, waits_since))

    def cancel_pending(self, worker: int, current: int | None) -> Collection[int]:
        """Remove the items that the worker has not started, but for the rank `current`; return their ranks."""
        return self._workers[worker].cancel_pending(current)

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Pass the assignments that are likely to start next to the executor."""
        self._executor.prepare(assignments)

    def next_completion(self, timeout_seconds: float, linger_seconds: float = 0.0) -> Completion | None:
        """Wait for the next completion and return it; None after the timeout or after a heartbeat.

        If none is available at once, sleep `linger_seconds` first, so that several arrive meanwhile.
        """
        if linger_seconds > 0 and self._completions.empty():
            sleep(linger_seconds)
        try:
            return self._completions.get(timeout=min(timeout_seconds, HEARTBEAT_SECONDS))
        except Empty:
            return None

    def close(self) -> None:
        """Let the threads finish what they have started, and wait for them. Can be called again if interrupted."""
        for worker in self._workers:
            worker.close()
        # Completions are not counted: an interrupt may have lost one that was already taken. `join` is not used:
        # before Python 3.13 a Ctrl-C in it marks a running thread as ended (`_wait_for_tstate_lock`).
        while any(w.thread.ident is not None and w.thread not in self._ended for w in self._workers):
            with suppress(Empty):
                self._ending.get(timeout=HEARTBEAT_SECONDS)
        for thread in self._ended:
            thread.join()

    @property
    def drained(self) -> bool:
        """True if no completion is available at once."""
        return self._completions.empty()

    @property
    def error(self) -> BaseException | None:
        """The first exception that was raised when a lane was closed."""
        return next((worker.error for worker in self._workers if worker.error is not None), None)

    def _note_end(self) -> None:
        self._ended.append(current_thread())
        self._ending.put(None)

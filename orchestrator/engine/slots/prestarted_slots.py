"""Opens slots ahead of need and removes used ones in the background, with threads of its own.

A fresh slot costs the engine far more than a test. So the engine should be busy all the time, but with no more
calls at once than it can handle: beyond that, each call only takes longer (docs/design/engine/fresh-slots.md). A
prestarted slot belongs to one attempt of one test, whose name and labels its container has.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.model.tests import Assignment

T = TypeVar("T")
Key = tuple[str, int]

IN_FLIGHT_PER_CPU = 2
"""The number of openings and removals at once, for each CPU. Measured on 2 CPUs with 1, 2, 3, 4, 6 and 8 at once:
417, 258, 200, 184, 226 and 215 ms a container. With one, the engine is idle between its steps; with more than 4,
the calls only wait for each other.
"""
OPENINGS_PER_REMOVAL = 6
"""The number of openers for each remover: a start takes the engine 130 to 190 ms, the removal of a container that
has ended 10 to 30 ms.
"""
RETIRED_PER_REMOVER = 4
"""The number of slots that may wait for each remover. `retire` blocks beyond that, so that they do not pile up."""
TAKEN_KEPT = 1024
"""The number of taken attempts to remember: more than a stale `prepare` call can name."""
CLOSED = "no slot is opened any more: the run is ending"


@dataclass(slots=True)
class _Prestarted(Generic[T]):
    """A slot between `prepare` and `take`; `done` is set once it is open or has failed to open."""

    item: T | None = None
    error: Exception | None = None
    done: bool = False

    def outcome(self) -> T:
        """Return the slot, or raise the exception that opening it raised."""
        if self.error is not None:
            raise self.error
        return cast("T", self.item)


class PrestartedSlots(Generic[T]):
    """Slots that are opened before their test is taken. Any thread may call any method.

    No thread is started before there is something to do.
    """

    def __init__(
        self,
        open_slot: Callable[[Assignment], T],
        close_slot: Callable[[T], None],
        *,
        max_ahead: int,
        starters: int,
        removers: int,
    ) -> None:
        """Allow `max_ahead` slots to be open or opening before their test is taken; each uses memory.

        `starters` and `removers` are the largest numbers of slots that are opened and closed at once.
        """
        self._open_slot = open_slot
        self._close_slot = close_slot
        self._max_ahead = max_ahead
        self._starters = max(1, starters)
        self._removers = max(1, removers)
        self._changed = threading.Condition()
        self._hints: deque[Assignment] = deque()
        self._prestarted: dict[Key, _Prestarted[T]] = {}
        self._taken: dict[Key, None] = {}  # the last ones, oldest first
        self._retired: deque[T] = deque()
        self._opening = 0
        self._waiting_takers = 0  # callers of `take` that wait to open: they come before anything ahead of need
        self._closed = False
        self._opened_all = False  # after `close`: nothing can be retired by a starter any more
        self._start_threads: list[threading.Thread] = []
        self._remove_threads: list[threading.Thread] = []

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Start to open slots for the attempts that are likely to be taken next, in this order. Return at once.

        The list replaces that of an earlier call, but slots that are open or opening stay until taken or closed.
        """
        with self._changed:
            if self._closed or self._max_ahead < 1:
                return
            self._hints = deque({_key(a): a for a in assignments if self._is_new(a)}.values())
            while self._hints and len(self._start_threads) < self._starters:
                self._start_threads.append(_start(self._open_ahead, "orch-slot-opener"))
            self._changed.notify_all()

    def _is_new(self, assignment: Assignment) -> bool:
        key = _key(assignment)
        return key not in self._prestarted and key not in self._taken

    def take(self, assignment: Assignment) -> T:
        """Return the slot of this attempt: the prestarted one, or else one that is opened now.

        Raises the exceptions of `open_slot`, and EngineError once the pool is closed.
        """
        key = _key(assignment)
        with self._changed:
            self._note_taken(key)
            entry = self._prestarted.get(key)
            if entry is not None:
                self._changed.wait_for(lambda: entry.done)
                if self._prestarted.pop(key, None) is None:
                    raise EngineError(CLOSED)
                self._changed.notify_all()  # there is room for another one ahead
                return entry.outcome()
            self._await_capacity()
        try:
            return self._open_slot(assignment)
        finally:
            self._end_opening()

    def _note_taken(self, key: Key) -> None:
        """Remember that the attempt was taken, so that a late `prepare` call opens no slot for it."""
        self._taken[key] = None
        if len(self._taken) > TAKEN_KEPT:
            del self._taken[next(iter(self._taken))]
        self._hints = deque(a for a in self._hints if _key(a) != key)

    def _await_capacity(self) -> None:
        """Wait until one more slot may be opened, and count it. The caller holds the lock."""
        self._waiting_takers += 1
        try:
            self._changed.wait_for(lambda: self._closed or self._opening < self._starters)
        finally:
            self._waiting_takers -= 1
            self._changed.notify_all()  # the openers may go on
        if self._closed:
            raise EngineError(CLOSED)
        self._opening += 1

    def _end_opening(self) -> None:
        with self._changed:
            self._opening -= 1
            self._changed.notify_all()

    def retire(self, item: T) -> None:
        """Close a slot in the background, or in this thread after `close`. Blocks while too many others wait."""
        with self._changed:
            room = self._removers * RETIRED_PER_REMOVER
            self._changed.wait_for(lambda: self._closed or len(self._retired) < room)
            if not self._closed:
                self._hand_over(item)
                return
        self._close_slot(item)

    def _hand_over(self, item: T) -> None:
        """Give a slot to the removers. The caller holds the lock."""
        self._retired.append(item)
        if len(self._remove_threads) < self._removers:
            self._remove_threads.append(_start(self._remove, "orch-slot-remover"))
        self._changed.notify_all()

    def close(self) -> None:
        """Close all prestarted and retired slots, and end the threads. May be called twice.

        Slots that are being opened are closed once they are open. Slots that were taken are not closed.
        """
        with self._changed:
            self._closed = True
            self._hints.clear()
            self._changed.notify_all()
        for thread in self._start_threads:
            thread.join()
        with self._changed:
            if not self._opened_all:  # nothing is opened any more, so all threads may remove
                self._removers += self._starters
            left = [entry for entry in self._prestarted.values() if entry.error is None]
            self._prestarted.clear()
            for entry in left:
                self._hand_over(entry.outcome())
            while len(self._remove_threads) < min(self._removers, len(self._retired)):
                self._remove_threads.append(_start(self._remove, "orch-slot-remover"))
            self._opened_all = True
            self._changed.notify_all()
        for thread in self._remove_threads:
            thread.join()

    # ------------------------------------------------------------ the threads

    def _open_ahead(self) -> None:
        """Open the slots of `prepare` in order, while there is room, until the pool is closed (in an opener)."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_room())
                if self._closed:
                    return
                assignment = self._hints.popleft()
                entry: _Prestarted[T] = _Prestarted()
                self._prestarted[_key(assignment)] = entry
                self._opening += 1
            try:
                entry.item = self._open_slot(assignment)
            except Exception as error:  # noqa: BLE001 - `take` raises it
                entry.error = error
            entry.done = True
            self._end_opening()

    def _has_room(self) -> bool:
        """Return whether one more slot may be opened ahead of need; failed ones do not count.

        The caller holds the lock.
        """
        if not self._hints or self._waiting_takers or self._opening >= self._starters:
            return False
        return sum(entry.error is None for entry in self._prestarted.values()) < self._max_ahead

    def _remove(self) -> None:
        """Close retired slots until the pool is closed and none is left (a remover thread)."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._retired or self._opened_all)
                if not self._retired:
                    return
                item = self._retired.popleft()
                self._changed.notify_all()  # a caller that waits in `retire` may continue
            try:
                self._close_slot(item)
            except Exception:  # noqa: BLE001, S112 - the other slots must still be closed
                continue


def worker_counts(cpus: int) -> tuple[int, int]:
    """Return the numbers of (starters, removers) for an engine with this many CPUs; 0 means unknown."""
    together = max(2, IN_FLIGHT_PER_CPU * cpus)
    removers = max(1, together // (OPENINGS_PER_REMOVAL + 1))
    return together - removers, removers


def _key(assignment: Assignment) -> Key:
    return (assignment.key, assignment.attempt)


def _start(work: Callable[[], None], name: str) -> threading.Thread:
    # a daemon thread: if `close` was never called, the program must still end, and the watchdog cleans up
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread

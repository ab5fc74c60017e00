"""The threads that execute: orders in by one queue, answers out by another, and a reliable end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model import Assignment, Attempt

    Execute = Callable[[Assignment, float], Attempt]
    """The assignment, and for how many seconds it queued."""

HEARTBEAT_SECONDS = 0.5
"""Longest wait in one piece. A signal that arrives just before CPython blocks does not end the wait, and its
handler runs only after it.
"""


@dataclass(slots=True, frozen=True)
class Done:
    """A worker's answer: exactly one of `attempt` and `error`."""

    rank: int
    attempt: Attempt | None
    error: BaseException | None


class Workers:
    """Threads that execute; as many as were ever busy at once."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._orders: SimpleQueue[tuple[int, Assignment, float] | None] = SimpleQueue()
        self._answers: SimpleQueue[Done] = SimpleQueue()
        self._threads: list[Thread] = []
        self._ended: list[Thread] = []
        self._ending: SimpleQueue[None] = SimpleQueue()
        self._busy = 0

    def order(self, rank: int, assignment: Assignment, waits_since: float) -> None:
        """Have it executed; a thread is free or is made."""
        self._busy += 1
        if self._busy > len(self._threads):
            thread = Thread(target=self._work, name=f"orch-slot-{self._busy}")
            self._threads.append(thread)  # before it starts: an interrupt in between must not orphan it
            thread.start()
        self._orders.put((rank, assignment, waits_since))

    def answer(self, timeout_seconds: float) -> Done | None:
        """The next answer; None when time is up, or after a heartbeat: ask again."""
        try:
            done = self._answers.get(timeout=min(timeout_seconds, HEARTBEAT_SECONDS))
        except Empty:
            return None
        self._busy -= 1
        return done

    def close(self) -> None:
        """Let the threads finish what they have, and await them. Call it again if it was interrupted."""
        for _ in self._threads:
            self._orders.put(None)
        # Not by counting answers: an interrupt may have lost one that was already taken. Not by `join`:
        # before Python 3.13 a Ctrl-C in it marks a running thread as ended (`_wait_for_tstate_lock`).
        while any(thread.ident is not None and thread not in self._ended for thread in self._threads):
            with suppress(Empty):
                self._ending.get(timeout=HEARTBEAT_SECONDS)
        for thread in self._ended:
            thread.join()

    def _work(self) -> None:
        try:
            self._work_off()
        finally:
            self._ended.append(current_thread())
            self._ending.put(None)

    def _work_off(self) -> None:
        while (order := self._orders.get()) is not None:
            rank, assignment, waits_since = order
            try:
                done = Done(rank, self._execute(assignment, monotonic() - waits_since), None)
            except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
                done = Done(rank, None, error)
            self._answers.put(done)
            del order, assignment, done  # an idle worker keeps no attempt alive

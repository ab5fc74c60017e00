"""The flag that ends a run: how urgently, why, and who is woken. Shared by the scheduler and the executors.

There is no lock in here on purpose. `set` is called from signal handlers, which interrupt the main thread
anywhere, also inside `wait` or `set`: a lock held there would never be released. Every step is one operation
that CPython makes whole (an item set to True, `dict.setdefault`, `list.append`, `SimpleQueue.put`).
"""

from __future__ import annotations

from contextlib import suppress
from enum import IntEnum
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE_SECONDS = 0.5
_ONLY_RUN = [True, False, False, False]


class StopLevel(IntEnum):
    """How urgently a run ends. Each level includes those below it."""

    RUN = 0
    """Not at all."""
    DRAIN = 1
    """Start nothing new; let what runs finish."""
    TERMINATE = 2
    """End what runs gently: TERM, the profile's grace, KILL."""
    KILL = 3
    """End what runs at once."""


class StopFlag:
    """A level that only rises. Safe to use from any thread and from signal handlers."""

    def __init__(self) -> None:
        # One latch per level, each only ever set to True: whatever interrupts whatever, no level is lost,
        # which "compare, then assign" on a single attribute could not promise.
        self._reached = [True, False, False, False]
        self._reasons: dict[int, str] = {}
        self._listeners: list[Callable[[], object]] = []

    @property
    def level(self) -> StopLevel:
        """The highest level that was set."""
        if self._reached == _ONLY_RUN:  # asked several times a test
            return StopLevel.RUN
        for level in (StopLevel.KILL, StopLevel.TERMINATE, StopLevel.DRAIN):
            if self._reached[level]:
                return level
        return StopLevel.RUN

    @property
    def reason(self) -> str | None:
        """Why the run ends: the reason given for the present level, else for the lower one nearest to it.
        None: not stopped, or nobody said why.
        """
        for level in range(self.level, StopLevel.RUN, -1):
            if level in self._reasons:
                return self._reasons[level]
        return None

    def set(self, level: StopLevel, reason: str | None = None) -> None:
        """Raise the level; a lower or equal one changes nothing. The first reason for a level is kept."""
        if level <= self.level:
            return
        if reason is not None:
            self._reasons.setdefault(int(level), reason)
        self._reached[level] = True
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` after each rise, in the thread or signal handler that caused it: it must be quick
        and take no lock (`SimpleQueue.put` is made for it). Returns what ends the listening.
        """
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def wait(self, timeout_seconds: float | None, *, above: StopLevel = StopLevel.RUN) -> StopLevel:
        """Block until the level is higher than `above`, or time is up (None: no limit); the level then."""
        woken: SimpleQueue[None] = SimpleQueue()
        # Listen first, look second: a rise in between is seen by one or the other.
        end = self.listen(lambda: woken.put(None))
        deadline = None if timeout_seconds is None else monotonic() + timeout_seconds
        try:
            while (level := self.level) <= above:
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    break
                # In pieces: a signal that arrives just before CPython blocks does not end a wait.
                with suppress(Empty):
                    woken.get(timeout=_PIECE_SECONDS if remaining is None else min(remaining, _PIECE_SECONDS))
            return self.level if level <= above else level
        finally:
            end()

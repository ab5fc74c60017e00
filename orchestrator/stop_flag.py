"""The flag that ends a run, with its level and its reason. The scheduler and the executors share it.

It has no lock on purpose. Signal handlers call `set`, and they interrupt the main thread anywhere, even inside
`wait` or `set`: a lock that is held there would never be released. Every step is one operation that is atomic in
CPython (setting an item to True, `dict.setdefault`, `list.append`, `SimpleQueue.put`).
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
    """The run goes on."""
    DRAIN = 1
    """Start no further test; let running tests finish."""
    TERMINATE = 2
    """End running tests gently: TERM, the grace period of the profile, KILL."""
    KILL = 3
    """Kill running tests at once."""


class StopFlag:
    """A level that only rises. Safe to use from any thread and from signal handlers."""

    def __init__(self) -> None:
        # One item per level, which is only ever set to True, so that no level is lost when one call interrupts
        # another. Comparing and then assigning a single attribute could lose one.
        self._reached = [True, False, False, False]
        self._reasons: dict[int, str] = {}
        self._listeners: list[Callable[[], object]] = []

    @property
    def level(self) -> StopLevel:
        """Return the highest level that was set."""
        if self._reached == _ONLY_RUN:  # a short cut, because it is read several times per test
            return StopLevel.RUN
        for level in (StopLevel.KILL, StopLevel.TERMINATE, StopLevel.DRAIN):
            if self._reached[level]:
                return level
        return StopLevel.RUN

    @property
    def reason(self) -> str | None:
        """Return why the run ends: the reason of the current level, else that of the next lower level with one.

        Return None if the run was not stopped, or no reason was given.
        """
        for level in range(self.level, StopLevel.RUN, -1):
            if level in self._reasons:
                return self._reasons[level]
        return None

    def set(self, level: StopLevel, reason: str | None = None) -> None:
        """Raise the level. A lower or equal level changes nothing. The first reason of a level is kept."""
        if level <= self.level:
            return
        if reason is not None:
            self._reasons.setdefault(int(level), reason)
        self._reached[level] = True
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` after each rise of the level. Return a function that ends this.

        It is called in the thread or signal handler that raised the level, so it must be quick and take no lock
        (`SimpleQueue.put` is suitable).
        """
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def wait(self, timeout_seconds: float | None, *, above: StopLevel = StopLevel.RUN) -> StopLevel:
        """Wait until the level is above `above` or the timeout (None: no limit) is over. Return the level."""
        woken: SimpleQueue[None] = SimpleQueue()
        # Listen before reading the level, so that a rise between the two is not missed.
        end = self.listen(lambda: woken.put(None))
        deadline = None if timeout_seconds is None else monotonic() + timeout_seconds
        try:
            while (level := self.level) <= above:
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    break
                # In pieces, because a signal that arrives just before CPython blocks does not end a wait.
                with suppress(Empty):
                    woken.get(timeout=_PIECE_SECONDS if remaining is None else min(remaining, _PIECE_SECONDS))
            return self.level if level <= above else level
        finally:
            end()

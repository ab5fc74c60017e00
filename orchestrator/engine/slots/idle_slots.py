"""Containers that wait, unused, for another test of their profile. Shared by the lanes of a run.

Where tests of several profiles alternate, a lane puts the container that it has aside and does not open one each
time. What one that waits costs is its memory, which nothing reserves: docs/design/idle-slots.md has the limits.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model.profiles import Profile
    from orchestrator.model.runs import EngineInfo

IDLE_PER_CPU = 2
MEMORY_SHARE = 1 / 40
"""Of the machine's memory, for all that wait together. Admission leaves a tenth of it to the engine, orch and the
page cache (`commands/run.py`); this is a quarter of that.
"""


class IdleSlot(Protocol):
    """What is kept here."""

    @property
    def profile(self) -> Profile:
        """Whose tests it can take."""
        ...

    @property
    def charged_bytes(self) -> int | None:
        """Memory charged to it; None: that is not known."""
        ...

    @property
    def alive(self) -> bool:
        """It can still take a test."""
        ...


T = TypeVar("T", bound=IdleSlot)


class IdleSlotPool(Generic[T]):
    """Any thread may call any method."""

    def __init__(self, retire: Callable[[T], None], *, max_slots: int, max_bytes: int) -> None:
        """`retire` removes a container. At most `max_slots` wait, and at most `max_bytes` are charged to them."""
        self._retire = retire
        self._max_slots = max_slots
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: list[T] = []
        """The one that has waited longest first."""
        self._closed = False

    def put(self, slot: T) -> None:
        """Keep it; those that have waited longest give way. One of which it is not known what is charged to it
        is not kept.
        """
        with self._lock:
            out = [slot]
            if not self._closed and slot.charged_bytes is not None:
                self._waiting.append(slot)
                out = self._evict_surplus()
        for one in out:
            self._retire(one)

    def _evict_surplus(self) -> list[T]:
        """Take out what is too much. The lock is slot."""
        out = []
        while len(self._waiting) > self._max_slots or self._charged_bytes > self._max_bytes:
            out.append(self._waiting.pop(0))
        return out

    @property
    def _charged_bytes(self) -> int:
        return sum(one.charged_bytes or 0 for one in self._waiting)

    def take(self, profile: Profile) -> T | None:
        """The one of an equal profile that was put here last; None: there is none that still lives."""
        with self._lock:
            fitting = [one for one in reversed(self._waiting) if one.profile == profile]
            found = next((one for one in fitting if one.alive), None)
            ended = [one for one in fitting if one is not found and not one.alive]
            for one in (*ended, *([] if found is None else [found])):
                self._waiting.remove(one)
        for one in ended:
            self._retire(one)
        return found

    def close(self) -> None:
        """Remove what waits; nothing is kept any more. May be called twice."""
        with self._lock:
            self._closed = True
            out, self._waiting = self._waiting, []
        for one in out:
            self._retire(one)


def idle_limits(info: EngineInfo) -> tuple[int, int]:
    """How many containers may wait on this engine, and with how many bytes together."""
    return IDLE_PER_CPU * max(1, info.cpus), int(info.memory_bytes * MEMORY_SHARE)

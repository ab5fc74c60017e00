"""A pool of open slots that no lane uses at present, shared by the lanes of a run.

Where tests of several profiles alternate, a lane puts its slot here and later takes it back, instead of opening
one each time. An idle slot costs memory, which nothing reserves: docs/design/engine/idle-slots.md explains the
limits.
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
"""The share of the machine's memory for all idle slots together. Admission leaves a tenth of the memory to the
engine, orch and the page cache; this is a quarter of that.
"""


class IdleSlot(Protocol):
    """The properties of a slot that the pool uses."""

    @property
    def profile(self) -> Profile:
        """The profile whose tests the slot can take."""
        ...

    @property
    def charged_bytes(self) -> int | None:
        """The memory charged to the slot, in bytes; None if unknown."""
        ...

    @property
    def alive(self) -> bool:
        """True if the slot can still take a test."""
        ...


T = TypeVar("T", bound=IdleSlot)


class IdleSlotPool(Generic[T]):
    """Idle slots of all profiles. Any thread may call any method."""

    def __init__(self, retire: Callable[[T], None], *, max_slots: int, max_bytes: int) -> None:
        """Keep at most `max_slots` slots, with `max_bytes` charged to all of them; `retire` removes a slot."""
        self._retire = retire
        self._max_slots = max_slots
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: list[T] = []
        """The idle slots, the oldest first."""
        self._closed = False

    def put(self, slot: T) -> None:
        """Add a slot; evict the oldest beyond the limits. A slot with unknown memory is removed at once."""
        with self._lock:
            out = [slot]
            if not self._closed and slot.charged_bytes is not None:
                self._waiting.append(slot)
                out = self._evict_surplus()
        for one in out:
            self._retire(one)

    def _evict_surplus(self) -> list[T]:
        """Take the oldest slots beyond the limits out of the pool, and return them. The caller holds the lock."""
        out = []
        while len(self._waiting) > self._max_slots or self._charged_bytes > self._max_bytes:
            out.append(self._waiting.pop(0))
        return out

    @property
    def _charged_bytes(self) -> int:
        return sum(one.charged_bytes or 0 for one in self._waiting)

    def take(self, profile: Profile) -> T | None:
        """Return the usable slot of an equal profile that was added last, or None; remove ended slots."""
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
        """Remove all slots; slots that are added later are removed at once. May be called twice."""
        with self._lock:
            self._closed = True
            out, self._waiting = self._waiting, []
        for one in out:
            self._retire(one)


def idle_limits(info: EngineInfo) -> tuple[int, int]:
    """Return the largest number of idle slots on this engine, and the most bytes charged to all of them."""
    return IDLE_PER_CPU * max(1, info.cpus), int(info.memory_bytes * MEMORY_SHARE)

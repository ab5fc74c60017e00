"""The waiting line: which test starts next, given what runs and how long that is expected to. Pure.

The rule: the first in line starts as soon as it fits. While it does not, a later one may go first
(backfilling) only if that cannot make the first one wait longer: it is expected to have ended by the time the
first one can start, or there is room for both. This is the EASY backfilling of batch schedulers (Lifka, "The
ANL/IBM SP scheduling system", 1995); docs/design/backfilling.md has what it gains. An estimate may be wrong:
a test that overruns counts as ending now, so nothing that needs time goes ahead because of it, and the first
in line starts at the latest when those that were running at its expected start have ended, which their
timeouts bound.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import deque
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestrator.scheduling.admission import Admission, Need

BACKFILL_DEPTH = 128
"""How far down the line is looked for a smaller test. Bounds the work for each start on long lines."""

_RANK = attrgetter("rank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A test in line."""

    rank: int
    """Its place, unique; lower goes first."""
    need: Need
    expected_seconds: float
    slot: object = None
    """Tests of which this is equal can run one after another in the same slot. None: runs in a fresh one."""
    follows: bool = False
    """It may be ordered behind another test before that one has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A test that takes from the budget now."""

    need: Need
    expected_end: float
    """On the clock that `Line.pick` is given."""


class Line:
    """Tests that wait, by rank. Of each group only one is in line; the rest are parked until it has ended, so
    that a large group does not stand in the way of everything else.
    """

    def __init__(self, waiting: Iterable[Waiting] = ()) -> None:
        self._ready: deque[Waiting] = deque()
        self._parked: dict[str, list[Waiting]] = {}
        """Group that has one in line or running -> the others of it."""
        self._least_millicpus = self._least_bytes = 1 << 62
        """No test that was ever in line needs less: a quick answer where all of them are alike."""
        for one in sorted(waiting, key=_RANK):
            self.add(one)

    def __len__(self) -> int:
        return len(self._ready) + sum(map(len, self._parked.values()))

    def __iter__(self) -> Iterator[Waiting]:
        yield from self._ready
        for parked in self._parked.values():
            yield from parked

    @property
    def head(self) -> Waiting | None:
        """The first in line."""
        return self._ready[0] if self._ready else None

    def first(self, count: int) -> Iterator[Waiting]:
        """The first few in line."""
        return islice(self._ready, count)

    def add(self, waiting: Waiting) -> None:
        """Put a test in line at its rank."""
        need = waiting.need
        self._least_millicpus = min(self._least_millicpus, need.millicpus)
        self._least_bytes = min(self._least_bytes, need.memory_bytes)
        if need.group is not None:
            if need.group in self._parked:
                insort(self._parked[need.group], waiting, key=_RANK)
                return
            self._parked[need.group] = []
        self._enter(waiting)

    def keep(self, wanted: Callable[[Waiting], bool]) -> None:
        """Send away all others."""
        kept = [one for one in self if wanted(one)]
        running = self._parked.keys() - {one.need.group for one in self._ready}
        self._ready.clear()
        self._parked = {group: [] for group in running}
        for one in sorted(kept, key=_RANK):
            self.add(one)

    def _enter(self, waiting: Waiting) -> None:
        """At its place; quick at both ends, where nearly all go."""
        ready, rank = self._ready, waiting.rank
        if not ready or rank > ready[-1].rank:
            ready.append(waiting)
        elif rank < ready[0].rank:
            ready.appendleft(waiting)
        else:
            ready.insert(bisect(ready, rank, key=_RANK), waiting)

    def release(self, group: str | None) -> None:
        """A picked test of this group has ended: the next one of it gets in line."""
        if group is None:
            return
        parked = self._parked[group]
        if parked:
            self._enter(parked.pop(0))
        else:
            del self._parked[group]

    def take_head(self) -> Waiting:
        """Take the first out of the line, which must not be empty."""
        return self._ready.popleft()

    def pick(self, admission: Admission, running: Iterable[Running], now: float) -> Waiting | None:
        """Take the test that starts now out of the line; None: none may. `running` is in `admission`, and is
        looked at only if the first does not fit and another does.
        """
        if not self._ready or admission.full:
            return None
        if admission.fits(self._ready[0].need):
            return self._ready.popleft()
        millicpus, memory_bytes = admission.room
        if millicpus < self._least_millicpus or memory_bytes < self._least_bytes:
            return None
        reserved: tuple[float, Admission] | None = None
        for index, candidate in enumerate(islice(self._ready, 1, BACKFILL_DEPTH + 1), 1):
            need = candidate.need
            if need.millicpus > millicpus or need.memory_bytes > memory_bytes or not admission.fits(need):
                continue
            if reserved is None:
                reserved = _reserve(self._ready[0].need, admission, running, now)
            if now + candidate.expected_seconds <= reserved[0] or reserved[1].fits(need):
                del self._ready[index]
                return candidate
        return None


def _reserve(need: Need, admission: Admission, running: Iterable[Running], now: float) -> tuple[float, Admission]:
    """When a test that does not fit now is expected to, and what is taken then, itself included."""
    start_at = now
    for one in sorted(running, key=attrgetter("expected_end")):
        admission = admission.give(one.need)
        start_at = max(now, one.expected_end)
        if admission.fits(need):
            break
    return start_at, admission.take(need)

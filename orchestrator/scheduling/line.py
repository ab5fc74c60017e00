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

from bisect import insort
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
        self._ready: list[Waiting] = []
        self._parked: dict[str, list[Waiting]] = {}
        """Group that has one in line or running -> the others of it."""
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

    def add(self, waiting: Waiting) -> None:
        """Put a test in line at its rank."""
        group = waiting.need.group
        if group is not None:
            if group in self._parked:
                insort(self._parked[group], waiting, key=_RANK)
                return
            self._parked[group] = []
        insort(self._ready, waiting, key=_RANK)

    def release(self, group: str | None) -> None:
        """A picked test of this group has ended: the next one of it gets in line."""
        if group is None:
            return
        parked = self._parked[group]
        if parked:
            insort(self._ready, parked.pop(0), key=_RANK)
        else:
            del self._parked[group]

    def pick(self, admission: Admission, running: Iterable[Running], now: float) -> Waiting | None:
        """Take the test that starts now out of the line; None: none may. `running` is in `admission`."""
        if not self._ready or admission.full:
            return None
        if admission.fits(self._ready[0].need):
            return self._ready.pop(0)
        start_at, beside = _reserve(self._ready[0].need, admission, running, now)
        for index in range(1, min(len(self._ready), BACKFILL_DEPTH + 1)):
            candidate = self._ready[index]
            if not admission.fits(candidate.need):
                continue
            if now + candidate.expected_seconds <= start_at or beside.fits(candidate.need):
                return self._ready.pop(index)
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

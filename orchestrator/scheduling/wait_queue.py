"""The waiting line: which test starts next, given what runs and how long that is expected to. Pure.

Two rules, one after the other (docs/design/backfilling.md has what they gain):

While plenty of work is left, the test starts that fills most of the machine for the longest: of the first in
line that fit, the one of the largest area (share of the scarcest resource, times expected seconds). The first
in line, the longest of all, may wait for room meanwhile; it would only leave gaps if others waited for it.

As soon as what is left would take less than twice as long as the first in line, that one has precedence: it
starts as soon as it fits, and a later one may go first (backfilling) only if that cannot make it wait longer: it
is expected to have ended by then, or there is room for both. This is the EASY backfilling of batch schedulers
(Lifka, "The ANL/IBM SP scheduling system", 1995). So no long test is left for the end. An estimate may be wrong: a
test that overruns counts as ending now, so nothing that needs time goes ahead because of it.
"""

from __future__ import annotations

import posixpath
from bisect import bisect, insort
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from orchestrator.model.suites import Preload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Admission, Budget, Need

BACKFILL_DEPTH = 128
"""How far down the line is looked for a smaller test. Bounds the work for each start on long lines."""

PRECEDENCE = 2.0
"""The first in line has precedence once the rest would take less than so many times as long as it alone."""

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
    opening_seconds: float = 0.0
    """What a slot takes to be ready for its first test."""
    slot_seconds: float = 0.0
    """What it is expected to take where others have used the slot before."""
    follows: bool = False
    """It may be ordered behind another test before that one has ended, and others behind it."""


@dataclass(slots=True, eq=False)
class Kind:
    """All tests that can run in the same slots."""

    slot: object
    opening_seconds: float
    seconds: float = 0.0
    """Of those in line."""
    opened: int = 0
    """Most that have run at one time: so many slots there are."""


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
        self._work = [0.0, 0.0, 0.0]
        """CPU seconds (in thousandths), byte seconds and seconds of all but exclusive tests in line."""
        self._kind: tuple[Need, float] | None = None
        self._mixed = False
        """Not all that were ever in line are of one kind."""
        self.kinds: list[Kind] = []
        """Of slots that are reused; one for each profile, so there are few."""
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
        self._count(waiting, 1)
        if not self._mixed:
            kind = need, waiting.expected_seconds
            self._kind = self._kind or kind
            self._mixed = kind != self._kind
        if need.group is not None:
            if need.group in self._parked:
                insort(self._parked[need.group], waiting, key=_RANK)
                return
            self._parked[need.group] = []
        self._enter(waiting)

    def keep(self, wanted: Callable[[Waiting], bool]) -> None:
        """Send away all others."""
        self._refill([one for one in self if wanted(one)])

    def renew(self, renewed: Callable[[Waiting], Waiting]) -> None:
        """Put another in the place of each, of the same rank and group."""
        self._refill([renewed(one) for one in self])

    def _refill(self, ones: Iterable[Waiting]) -> None:
        running = self._parked.keys() - {one.need.group for one in self._ready}
        self._ready.clear()
        self._work = [0.0, 0.0, 0.0]
        for kind in self.kinds:
            kind.seconds = 0.0
        self._parked = {group: [] for group in running}
        for one in sorted(ones, key=_RANK):
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
        return self._take(0)

    def kind_of(self, slot: object) -> Kind | None:
        """Of the tests that run in such slots; None: such are not reused, or no test in line ever wanted one."""
        if slot is None:
            return None
        return next((kind for kind in self.kinds if kind.slot is slot or kind.slot == slot), None)

    def pick(
        self, admission: Admission, running: Iterable[Running], now: float, shut: Collection[Kind] = ()
    ) -> Waiting | None:
        """Take the test that starts now out of the line; None: none may. `running` is in `admission`, and is
        looked at only if the first has precedence, does not fit, and another does. Tests of a kind in `shut`
        stay in line, as if they were not there.
        """
        if not self._ready or admission.full:
            return None
        first = self._first_but(shut)
        if first is None:
            return None
        fits = admission.fits(self._ready[first].need)
        if fits and not self._mixed:
            return self._take(first)
        millicpus, memory_bytes = admission.room
        if not fits and (millicpus < self._least_millicpus or memory_bytes < self._least_bytes):
            return None
        if not self.has_precedence(admission.budget):
            index = self._largest(admission, shut)
        else:
            index = first if fits else self._harmless(admission, running, now, first, shut)
        return None if index is None else self._take(index)

    def _first_but(self, shut: Collection[Kind]) -> int | None:
        """Index of the first in line that is of no such kind."""
        if not shut:
            return 0
        places = enumerate(islice(self._ready, BACKFILL_DEPTH))
        return next((index for index, one in places if not self._is_shut(one, shut)), None)

    def _is_shut(self, waiting: Waiting, shut: Collection[Kind]) -> bool:
        return bool(shut) and self.kind_of(waiting.slot) in shut

    def has_precedence(self, budget: Budget) -> bool:
        """The first in line is not overtaken any more by what would make it wait."""
        return not self._ready or self._seconds_left(budget) <= PRECEDENCE * self._ready[0].expected_seconds

    def _largest(self, admission: Admission, shut: Collection[Kind]) -> int | None:
        """Of the first that fit, the one that fills most of the machine for the longest."""
        millicpus, memory_bytes = admission.room
        idle = admission.running == 0
        per_millicpu, per_byte = 1e-3 / admission.budget.cpus, 1 / admission.budget.memory_bytes
        most = max(millicpus * per_millicpu, memory_bytes * per_byte)
        found, largest = None, -1.0
        for index, one in enumerate(islice(self._ready, BACKFILL_DEPTH)):
            need = one.need
            if (need.millicpus > millicpus or need.memory_bytes > memory_bytes) and not idle:
                continue
            area = one.expected_seconds * max(need.millicpus * per_millicpu, need.memory_bytes * per_byte)
            plain = need.group is None and not need.exclusive
            if area > largest and (plain or admission.fits(need)) and not self._is_shut(one, shut):
                found, largest = index, area
            if largest >= one.expected_seconds * most and not idle:
                break  # longest first: no later one can fill more
        return found

    def _harmless(
        self,
        admission: Admission,
        running: Iterable[Running],
        now: float,
        first: int,
        shut: Collection[Kind],
    ) -> int | None:
        """The first test that fits and does not make that at `first`, which does not, wait longer."""
        millicpus, memory_bytes = admission.room
        reserved: tuple[float, Admission] | None = None
        for index, one in enumerate(islice(self._ready, first + 1, first + 1 + BACKFILL_DEPTH), first + 1):
            need = one.need
            if need.millicpus > millicpus or need.memory_bytes > memory_bytes or not admission.fits(need):
                continue
            if self._is_shut(one, shut):
                continue
            if reserved is None:
                reserved = _reserve(self._ready[first].need, admission, running, now)
            if now + one.expected_seconds <= reserved[0] or reserved[1].fits(need):
                return index
        return None

    def _seconds_left(self, budget: Budget) -> float:
        """What all but the exclusive tests in line take at least."""
        millicpu_seconds, byte_seconds, seconds = self._work
        return max(
            millicpu_seconds / (1000 * budget.cpus), byte_seconds / budget.memory_bytes, seconds / budget.slots
        )

    def _take(self, index: int) -> Waiting:
        waiting = self._ready[index]
        del self._ready[index]
        self._count(waiting, -1)
        return waiting

    def _count(self, waiting: Waiting, sign: int) -> None:
        need, work = waiting.need, self._work
        if waiting.slot is not None:
            kind = self.kind_of(waiting.slot)
            if kind is None:
                kind = Kind(waiting.slot, waiting.opening_seconds)
                self.kinds.append(kind)
            kind.seconds += sign * waiting.slot_seconds
        if not need.exclusive:
            seconds = sign * waiting.expected_seconds
            work[0] += seconds * need.millicpus
            work[1] += seconds * need.memory_bytes
            work[2] += seconds


def _reserve(need: Need, admission: Admission, running: Iterable[Running], now: float) -> tuple[float, Admission]:
    """When a test that does not fit now is expected to, and what is taken then, itself included."""
    start_at = now
    for one in sorted(running, key=attrgetter("expected_end")):
        admission = admission.give(one.need)
        start_at = max(now, one.expected_end)
        if admission.fits(need):
            break
    return start_at, admission.take(need)


BRIEF_SECONDS = 0.25
BRIEF_SHARE = 1 / 200
"""A test that takes no longer, or no larger share of all tests' time, is brief: its place in the order of length
decides nothing.
"""


def expected_seconds(assignment: Assignment) -> float:
    """How long the test takes: p95 of its history, else its timeout (nothing tighter is known of it)."""
    timeout_seconds = assignment.profile.limits.timeout_seconds
    if assignment.history is None:
        return timeout_seconds
    return min(assignment.history.duration_seconds_p95, timeout_seconds)


def order(plan: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Longest first; among equals the bigger profile (memory, then CPUs) first; else as given.

    Tests that are forked from a preloaded runner, and brief as far as is known, count as equals and come folder by
    folder, that with most to do first: a slot keeps the runners of few folders, and starting one takes longer
    than such a test. What is lost by it at a run's end is less than one of them takes.

    Exclusive tests come after all others: each of them empties the machine, and one after another at the end
    they do so once, not once each.
    """
    tests = tuple(plan)
    brief = max(BRIEF_SECONDS, BRIEF_SHARE * sum(map(expected_seconds, tests)))
    work: defaultdict[str, float] = defaultdict(float)
    for one in tests:
        if _is_forked(one):
            work[_folder(one)] += min(expected_seconds(one), brief)

    def key(one: Assignment) -> tuple[object, ...]:
        seconds, forked = expected_seconds(one), _is_forked(one)
        folder = _folder(one) if forked else ""
        limits = one.profile.limits
        leading = max(seconds, brief) if forked else seconds
        return one.exclusive, -leading, -limits.memory_bytes, -limits.cpus, -work[folder], folder, -seconds

    return tuple(sorted(tests, key=key))


def _is_forked(assignment: Assignment) -> bool:
    return assignment.profile.reuse > 1 and assignment.test.command.preload is not Preload.OFF


def _folder(assignment: Assignment) -> str:
    return posixpath.dirname(assignment.test.id.path)

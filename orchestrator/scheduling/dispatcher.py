"""Which test runs in which lane, and which are ordered behind it. Pure: the scheduler's decisions on any clock.

A lane is one place of execution, which runs tests one after another. A *follower* is a test that a lane is told
of before its present one has ended, so that a slot that is reused never waits for the scheduler. A follower
takes over its predecessor's share of the budget: a lane holds the most that any of its tests needs. Only the
first in line becomes a follower, so that no test is overtaken by one. It is no promise: a follower that its
lane has not begun yet is put back in line as soon as it could start elsewhere (docs/design/followers.md).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.model.suites import Preload
from orchestrator.scheduling.admission import Admission, Budget, Need, need_of
from orchestrator.scheduling.wait_queue import Kind, Line, Running, Waiting, expected_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from orchestrator.model.tests import Assignment

FOLLOWERS = 4
"""Ordered ahead for each lane, whatever is known of the tests."""

MOST_FOLLOWERS = 24
AHEAD_SECONDS = 0.12
"""Of tests as short as the lane's present ones so many more are ordered ahead that it has work for so long.
Results can then be recorded several at a time, which takes less (docs/design/followers.md).
"""

BRIEF_SECONDS = 0.05
"""Only behind tests that are expected to take less than this may a follower need more than they do: it makes the
lane hold more than it uses, which costs long tests more than a wait for the scheduler (docs/design/followers.md).
Where all slots are taken, nothing else could use it.
"""

FOLLOW_SECONDS = 0.25
"""A test that is known to take longer is no follower and has none: it gains nothing by it, and the budget is used
better by whichever test fits when it ends (docs/design/followers.md).
"""

OPENING_SECONDS = 0.2
PRELOADING_SECONDS = 0.4
"""What a container, and a pytest in it, takes to be ready, measured on two CPUs of which both are busy."""

_NOTHING = Need(cpus=0.0, memory_bytes=0)


@dataclass(slots=True, eq=False)
class LaneState:
    """What is known of a lane here, in the scheduler's thread."""

    number: int
    """From 0, in the order in which they were needed."""
    current: Waiting | None = None
    """What it runs. None: it is idle."""
    followers: deque[Waiting] = field(default_factory=deque)
    begun: int = 0
    """So many of the followers cannot be taken back any more."""
    share: Need = _NOTHING
    """What it holds of the budget."""
    slot: object = None
    """`Waiting.slot` of its last test."""
    started: float = 0.0
    pace_seconds: float = math.inf
    """How long its tests take at present; a mean that forgets half in two tests."""

    @property
    def ahead_seconds(self) -> float:
        """For how long it has work besides the test that it runs, as far as that can be told."""
        return len(self.followers) * self.pace_seconds if self.followers else 0.0

    @property
    def waiting_seconds(self) -> float:
        """What its followers are expected to take."""
        return sum(one.expected_seconds for one in self.followers)

    def took(self, seconds: float) -> None:
        """A test of it has ended."""
        self.pace_seconds = seconds if self.pace_seconds == math.inf else 0.7 * self.pace_seconds + 0.3 * seconds

    def expected_end(self, now: float) -> float:
        """When it will have worked off what it has. A test that overruns counts as ending now."""
        assert self.current is not None  # noqa: S101 - only asked of busy lanes
        end = self.started + self.current.expected_seconds
        if not self.followers:
            return end
        return max(end, now) + self.waiting_seconds

    def fair_share(self) -> Need:
        """The most that any of its tests needs."""
        assert self.current is not None  # noqa: S101 - only asked of busy lanes
        share = self.current.need
        for one in self.followers:
            share = share.covering(one.need)
        return share


class Dispatch:
    """Line, budget and lanes. The caller carries out what is decided, and says what ended."""

    def __init__(self, budget: Budget, waiting: Iterable[Waiting]) -> None:
        self.admission = Admission(budget=budget)
        self.line = Line(waiting)
        self.lanes: list[LaneState] = []
        """All that were ever needed at once, by number."""
        self.busy: dict[int, LaneState] = {}
        self._idle: list[LaneState] = []
        """Longest idle first."""

    def start(self, now: float) -> LaneState | None:
        """Start the next test, if one may start now: the lane whose `current` it is."""
        waiting = self.line.pick(self.admission, self._running(now), now, self._shut())
        if waiting is None:
            return None
        lane = self._lane_for(waiting)
        lane.current, lane.slot, lane.started = waiting, waiting.slot, now
        lane.share = waiting.need
        self.admission = self.admission.take(waiting.need)
        self.busy[lane.number] = lane
        kind = self.line.kind_of(waiting.slot)
        if kind is not None:
            kind.opened = max(kind.opened, self._in_use(kind))
        return lane

    def _shut(self) -> Sequence[Kind]:
        """Kinds of which no slot is free, and whose tests in line are sooner done in those that there are than
        in another one that would have to be opened (docs/design/idle-slots.md).
        """
        return [kind for kind in self.line.kinds if kind.seconds > 0 and not self._worth(kind, kind.seconds)]

    def _worth(self, kind: Kind, seconds: float) -> bool:
        """A test of the kind may begin beside those that run, if `seconds` of such work wait."""
        if seconds > kind.opening_seconds * kind.opened:
            return True
        in_use = self._in_use(kind)
        return in_use == 0 or in_use < kind.opened

    def _in_use(self, kind: Kind) -> int:
        return sum(lane.slot is kind.slot or lane.slot == kind.slot for lane in self.busy.values())

    def follow(self, now: float) -> LaneState | None:
        """Order the first in line behind another test: the lane whose last follower it is. None: not now."""
        head = self.line.head
        if head is None or not head.follows:
            return None
        able = [lane for lane in self.busy.values() if self._takes(lane, head)]
        if not able:
            return None
        lane = able[0] if len(able) == 1 else min(able, key=lambda lane: lane.expected_end(now))
        lane.followers.append(self.line.take_head())
        self._hold(lane, lane.share.covering(head.need))
        return lane

    def ended(self, lane: LaneState, now: float, took_seconds: float | None = None) -> Waiting | None:
        """The lane's test has ended: the follower that it runs now, if it has one. `took_seconds`: how long it ran
        where that is better known than from when its end is told.
        """
        assert lane.current is not None  # noqa: S101 - an idle lane has nothing that could end
        lane.took(now - lane.started if took_seconds is None else took_seconds)
        self.line.release(lane.current.need.group)
        if lane.followers:
            lane.current, lane.started = lane.followers.popleft(), now
            lane.begun = max(0, lane.begun - 1)
            if not lane.current.need.covers(lane.share):
                self._hold(lane, lane.fair_share())
            return lane.current
        self.admission = self.admission.give(lane.share)
        lane.current, lane.share = None, _NOTHING
        del self.busy[lane.number]
        self._idle.append(lane)
        return None

    def has_work(self, seconds: float) -> bool:
        """Every lane that runs has tests for so long behind its present one."""
        return all(lane.ahead_seconds >= seconds for lane in self.busy.values())

    def stranded(self) -> LaneState | None:
        """A lane with a follower that need not wait for it: there is room for it now, and it is its turn."""
        if self.admission.full:
            return None
        head = self.line.head
        for lane in self.busy.values():
            if len(lane.followers) > lane.begun:
                first = lane.followers[lane.begun]
                if (head is None or first.rank < head.rank) and self.admission.fits(first.need):
                    kind = self.line.kind_of(first.slot)
                    if kind is None or self._worth(kind, kind.seconds + lane.waiting_seconds):
                        return lane
        return None

    def put_back(self, lane: LaneState, ranks: Collection[int]) -> None:
        """These followers of the lane wait in line again; all others that it has are its own to the end."""
        returned = [one for one in lane.followers if one.rank in ranks]
        lane.followers = deque(one for one in lane.followers if one.rank not in ranks)
        lane.begun = len(lane.followers)
        self._hold(lane, lane.fair_share())
        for one in reversed(returned):
            self.line.add(one)

    def add(self, waiting: Waiting) -> None:
        """Put a test in line."""
        self.line.add(waiting)

    def keep(self, wanted: Callable[[Waiting], bool]) -> None:
        """Send all others in line away."""
        self.line.keep(wanted)

    def renew(self, renewed: Callable[[Waiting], Waiting]) -> None:
        """Put another in the place of each in line, of the same rank and group."""
        self.line.renew(renewed)

    def first(self, count: int) -> Iterator[Waiting]:
        """The first few in line."""
        return self.line.first(count)

    def _running(self, now: float) -> Iterator[Running]:
        for lane in self.busy.values():
            yield Running(need=lane.share, expected_end=lane.expected_end(now))

    def _takes(self, lane: LaneState, waiting: Waiting) -> bool:
        """The lane can be told of it now: the same slot will do, and so will its share and what is free."""
        current = lane.current
        if current is None or not current.follows or len(lane.followers) >= MOST_FOLLOWERS:
            return False
        if len(lane.followers) >= FOLLOWERS and lane.ahead_seconds >= AHEAD_SECONDS:
            return False
        if lane.slot is not waiting.slot and lane.slot != waiting.slot:
            return False
        need, share = waiting.need, lane.share
        if need is share:
            return True
        if current.expected_seconds > BRIEF_SECONDS and not self.admission.full:
            return need.millicpus <= share.millicpus and need.memory_bytes <= share.memory_bytes
        millicpus, memory_bytes = self.admission.room
        return (
            need.millicpus <= share.millicpus + max(millicpus, 0)
            and need.memory_bytes <= share.memory_bytes + max(memory_bytes, 0)
        )  # fmt: skip

    def _hold(self, lane: LaneState, share: Need) -> None:
        if share is lane.share or share == lane.share:
            return
        self.admission = self.admission.give(lane.share).take(share)
        lane.share = share

    def _lane_for(self, waiting: Waiting) -> LaneState:
        """An idle one whose slot can be reused; else one that has none to lose; else the longest idle one."""
        if not self._idle:
            lane = LaneState(len(self.lanes))
            self.lanes.append(lane)
            return lane
        wanted: list[int] = []
        if waiting.slot is not None:
            wanted = [index for index, lane in enumerate(self._idle) if lane.slot == waiting.slot]
        wanted = wanted or [index for index, lane in enumerate(self._idle) if lane.slot is None]
        return self._idle.pop(wanted[-1] if wanted else 0)


def waiting_of(rank: int, assignment: Assignment) -> Waiting:
    """The assignment as one that waits. What a pytest took that was the first of its slot has its own start in
    it; which ones were is not in the history, so that is taken off all that are long enough.
    """
    preloading = PRELOADING_SECONDS if assignment.test.command.preload is not Preload.OFF else 0.0
    reused, seconds = assignment.profile.reuse > 1, expected_seconds(assignment)
    own_place = assignment.exclusive or assignment.group is not None or assignment.attempt > 1
    return Waiting(
        rank=rank,
        need=need_of(assignment),
        expected_seconds=seconds,
        slot=assignment.profile if reused else None,
        opening_seconds=OPENING_SECONDS + preloading if reused else 0.0,
        slot_seconds=seconds - preloading if seconds > preloading else seconds,
        follows=reused and not own_place and (assignment.history is None or seconds <= FOLLOW_SECONDS),
    )

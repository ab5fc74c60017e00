"""What a plan will take, without running it: the scheduler's own rules on a clock that is only counted."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from orchestrator.model.tests import ScheduledTest
from orchestrator.scheduling.admission import need_of
from orchestrator.scheduling.dispatcher import Dispatch, waiting_of
from orchestrator.scheduling.wait_queue import expected_seconds, order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.wait_queue import Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A plan's expected course. As good as the history it was made from."""

    makespan_seconds: float
    """From the first test's start to the last one's end."""
    test_seconds: float
    """Of all tests together: what it would take one at a time."""
    longest_seconds: float
    """The longest test: no machine makes the run shorter than this."""
    utilisation: Mapping[str, float]
    """cpus, memory and slots -> mean share of the budget that is taken, 0 to 1. Above 1 where tests that are
    larger than the budget run alone. Empty for an empty plan.
    """
    bound_seconds: Mapping[str, float]
    """exclusive, slots, group, memory, cpus -> for how long it kept the first test in line waiting."""
    lower_bounds: Mapping[str, float]
    """See `lower_bounds`."""
    scheduled: tuple[ScheduledTest, ...]
    """Each test, in the order of their starts."""
    tests: int
    unknown: int
    """Tests without history, which are taken to need their whole timeout: an upper bound, not an estimate."""

    @property
    def lower_bound(self) -> tuple[str, float]:
        """The highest of the lower bounds, by name."""
        name = max(self.lower_bounds, key=lambda name: self.lower_bounds[name])
        return name, self.lower_bounds[name]

    @property
    def bound_by(self) -> str | None:
        """The limit that bound for longest; None: nothing ever waited, more of anything would not help."""
        if not self.bound_seconds:
            return None
        return max(self.bound_seconds, key=lambda name: (self.bound_seconds[name], name))


def predict(
    plan: Sequence[Assignment], budget: Budget, *, startup_seconds: float = 0.0, reused_seconds: float = 0.0
) -> Prediction:
    """Simulate the plan; no test fails. `startup_seconds` is what a container costs the first test in it on top,
    `reused_seconds` what each further one in the same container pays.
    """
    simulation = _Simulation(plan, budget, startup_seconds, reused_seconds)
    simulation.run()
    durations = [one.ended_seconds - one.started_seconds for one in simulation.scheduled]
    makespan_seconds = simulation.now
    return Prediction(
        makespan_seconds=makespan_seconds,
        test_seconds=sum(durations),
        longest_seconds=max(durations, default=0.0),
        utilisation={name: area / makespan_seconds for name, area in simulation.areas.items()}
        if makespan_seconds > 0
        else {},
        bound_seconds=simulation.bound_seconds,
        lower_bounds=lower_bounds(plan, budget),
        scheduled=tuple(simulation.scheduled),
        tests=len(plan),
        unknown=sum(a.history is None for a in plan),
    )


def lower_bounds(plan: Sequence[Assignment], budget: Budget) -> Mapping[str, float]:
    """Resource -> seconds that no schedule can be shorter than, start-up not counted: its use over what there is;
    `longest` is the longest test, `group` the longest group, whose tests run one at a time.
    """
    bounds = dict.fromkeys(("cpus", "memory", "slots", "longest", "group"), 0.0)
    groups: dict[str, float] = {}
    for assignment in plan:
        need, seconds = need_of(assignment), expected_seconds(assignment)
        bounds["cpus"] += seconds * min(1.0, need.cpus / budget.cpus)
        bounds["memory"] += seconds * min(1.0, need.memory_bytes / budget.memory_bytes)
        bounds["slots"] += seconds / budget.slots
        bounds["longest"] = max(bounds["longest"], seconds)
        if need.group is not None:
            groups[need.group] = groups.get(need.group, 0.0) + seconds
    bounds["group"] = max(groups.values(), default=0.0)
    return bounds


class _Simulation:
    def __init__(self, plan: Sequence[Assignment], budget: Budget, startup_seconds: float, reused_seconds: float):
        self.now = 0.0
        self.areas = {"cpus": 0.0, "memory": 0.0, "slots": 0.0}
        """Share of the budget taken, times seconds."""
        self.bound_seconds: dict[str, float] = {}
        self.scheduled: list[ScheduledTest] = []
        self._plan = order(plan)
        self._startup_seconds, self._reused_seconds = startup_seconds, reused_seconds
        self._dispatch = Dispatch(budget, (waiting_of(rank, a) for rank, a in enumerate(self._plan)))
        self._ends: list[tuple[float, int]] = []
        self._slots: dict[int, tuple[object, int]] = {}
        """Lane -> what its slot is good for, and for how many more tests."""

    def run(self) -> None:
        self._fill()
        while self._ends:
            ends_at, number = heappop(self._ends)
            self._pass(ends_at - self.now)
            self.now = ends_at
            follower = self._dispatch.ended(self._dispatch.lanes[number], self.now)
            if follower is not None:
                self._begin(number, follower)
            self._fill()

    def _fill(self) -> None:
        while True:
            if (lane := self._dispatch.start(self.now)) is not None and lane.current is not None:
                self._begin(lane.number, lane.current)
            elif (lane := self._dispatch.stranded()) is not None:
                self._dispatch.put_back(lane, {one.rank for one in lane.followers})
            else:
                break
        while self._dispatch.follow(self.now) is not None:
            pass

    def _begin(self, number: int, waiting: Waiting) -> None:
        assignment = self._plan[waiting.rank]
        slot, left = self._slots.get(number, (None, 0))
        fresh = waiting.slot is None or slot != waiting.slot or left == 0
        self._slots[number] = waiting.slot, (assignment.profile.reuse if fresh else left) - 1
        ends_at = self.now + waiting.expected_seconds + (self._startup_seconds if fresh else self._reused_seconds)
        self.scheduled.append(
            ScheduledTest(
                assignment=assignment, lane=number, started_seconds=self.now, ended_seconds=ends_at, fresh=fresh
            )
        )
        heappush(self._ends, (ends_at, number))

    def _pass(self, seconds: float) -> None:
        """Account for a stretch of time in which nothing starts or ends."""
        if seconds <= 0:
            return
        taken = self._dispatch.admission
        budget = taken.budget
        self.areas["cpus"] += seconds * taken.millicpus / (budget.cpus * 1000)
        self.areas["memory"] += seconds * taken.memory_bytes / budget.memory_bytes
        self.areas["slots"] += seconds * taken.running / budget.slots
        limit = self._bound()
        if limit is not None:
            self.bound_seconds[limit] = self.bound_seconds.get(limit, 0.0) + seconds

    def _bound(self) -> str | None:
        """What keeps the first that waits; where only members of running groups are left, their group."""
        dispatch = self._dispatch
        first = dispatch.line.head
        for lane in dispatch.busy.values():
            if lane.followers and (first is None or lane.followers[0].rank < first.rank):
                first = lane.followers[0]
        if first is not None:
            return dispatch.admission.binding(first.need)
        return "group" if len(dispatch.line) else None

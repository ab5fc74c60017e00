"""Predict the duration of a plan without running it, by the scheduler's own rules on a simulated clock."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from orchestrator.model.tests import ScheduledTest
from orchestrator.scheduling.admission import need_of
from orchestrator.scheduling.dispatcher import Dispatcher, queued_test
from orchestrator.scheduling.wait_queue import expected_seconds, longest_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.wait_queue import QueuedTest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The expected timing of a plan; it is as accurate as the history that it is computed from."""

    makespan_seconds: float
    """The time from the start of the first test to the end of the last one."""
    test_seconds: float
    """The sum of all tests' durations, which is the time of a run of one test at a time."""
    longest_seconds: float
    """The duration of the longest test; no run can be shorter than this."""
    utilisation: Mapping[str, float]
    """Resource (cpus, memory, slots) -> mean share of the budget that is in use, 0 to 1; above 1 where tests
    larger than the budget run alone. Empty for an empty plan.
    """
    bound_seconds: Mapping[str, float]
    """Limit (exclusive, slots, group, memory, cpus) -> for how long it kept the head of the queue waiting."""
    lower_bounds: Mapping[str, float]
    """The result of `lower_bounds` for this plan."""
    scheduled: tuple[ScheduledTest, ...]
    """All tests, in the order of their starts."""
    tests: int
    unknown: int
    """The number of tests without history, which are assumed to take their whole timeout (an upper bound)."""

    @property
    def lower_bound(self) -> tuple[str, float]:
        """The name and seconds of the highest lower bound."""
        name = max(self.lower_bounds, key=lambda name: self.lower_bounds[name])
        return name, self.lower_bounds[name]

    @property
    def bound_by(self) -> str | None:
        """The limit that kept tests waiting for longest; None: no test waited, so a larger budget
        would not help.
        """
        if not self.bound_seconds:
            return None
        return max(self.bound_seconds, key=lambda name: (self.bound_seconds[name], name))


def predict(
    plan: Sequence[Assignment], budget: Budget, *, startup_seconds: float = 0.0, reused_seconds: float = 0.0
) -> Prediction:
    """Simulate the plan, assuming that no test fails.

    `startup_seconds` is added to the first test of each container, `reused_seconds` to each further one.
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
    """Return resource -> seconds that no schedule can be shorter than, start-up not counted.

    The bound of cpus, memory and slots is the use of all tests divided by the budget. `longest` is the longest
    test, `group` the longest group, whose tests run one at a time.
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
        """Resource -> the share of the budget in use, integrated over time (seconds)."""
        self.bound_seconds: dict[str, float] = {}
        self.scheduled: list[ScheduledTest] = []
        self._plan = longest_first(plan)
        self._startup_seconds, self._reused_seconds = startup_seconds, reused_seconds
        self._dispatcher = Dispatcher(budget, (queued_test(rank, a) for rank, a in enumerate(self._plan)))
        self._ends: list[tuple[float, int]] = []
        self._slots: dict[int, tuple[object, int]] = {}
        """Worker number -> the key of its slot, and for how many more tests the slot can be used."""

    def run(self) -> None:
        self._fill()
        while self._ends:
            ends_at, number = heappop(self._ends)
            self._pass(ends_at - self.now)
            self.now = ends_at
            following = self._dispatcher.ended(self._dispatcher.workers[number], self.now)
            if following is not None:
                self._begin(number, following)
            self._fill()

    def _fill(self) -> None:
        while True:
            if (worker := self._dispatcher.start(self.now)) is not None and worker.current is not None:
                self._begin(worker.number, worker.current)
            elif (worker := self._dispatcher.stealable()) is not None:
                self._dispatcher.requeue(worker, {one.rank for one in worker.queued_ahead})
            else:
                break
        while self._dispatcher.queue_ahead(self.now) is not None:
            pass

    def _begin(self, number: int, test: QueuedTest) -> None:
        assignment = self._plan[test.rank]
        slot_key, left = self._slots.get(number, (None, 0))
        fresh = test.slot_key is None or slot_key != test.slot_key or left == 0
        self._slots[number] = test.slot_key, (assignment.profile.reuse if fresh else left) - 1
        ends_at = self.now + test.expected_seconds + (self._startup_seconds if fresh else self._reused_seconds)
        self.scheduled.append(
            ScheduledTest(
                assignment=assignment, worker=number, started_seconds=self.now, ended_seconds=ends_at, fresh=fresh
            )
        )
        heappush(self._ends, (ends_at, number))

    def _pass(self, seconds: float) -> None:
        """Account for a period in which no test starts or ends."""
        if seconds <= 0:
            return
        taken = self._dispatcher.admission
        budget = taken.budget
        self.areas["cpus"] += seconds * taken.millicpus / (budget.cpus * 1000)
        self.areas["memory"] += seconds * taken.memory_bytes / budget.memory_bytes
        self.areas["slots"] += seconds * taken.running / budget.slots
        limit = self._bound()
        if limit is not None:
            self.bound_seconds[limit] = self.bound_seconds.get(limit, 0.0) + seconds

    def _bound(self) -> str | None:
        """Return the limit that keeps the next test waiting; `group` if only tests of running groups are left."""
        dispatcher = self._dispatcher
        first = dispatcher.queue.head
        for worker in dispatcher.busy.values():
            if worker.queued_ahead and (first is None or worker.queued_ahead[0].rank < first.rank):
                first = worker.queued_ahead[0]
        if first is not None:
            return dispatcher.admission.binding(first.need)
        return "group" if len(dispatcher.queue) else None

"""What a plan will take, without running it: the scheduler's own rules on a clock that is only counted."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from orchestrator.scheduling.admission import Admission, need_of
from orchestrator.scheduling.line import Line, Running, Waiting
from orchestrator.scheduling.order import expected_seconds, order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model import Assignment
    from orchestrator.scheduling.admission import Budget


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
    tests: int
    unknown: int
    """Tests without history, which are taken to need their whole timeout: an upper bound, not an estimate."""

    @property
    def bound_by(self) -> str | None:
        """The limit that bound for longest; None: nothing ever waited, more of anything would not help."""
        if not self.bound_seconds:
            return None
        return max(self.bound_seconds, key=lambda name: (self.bound_seconds[name], name))


def predict(plan: Sequence[Assignment], budget: Budget, *, startup_seconds: float = 0.0) -> Prediction:
    """Simulate the plan; no test fails. `startup_seconds` is what a container costs each test on top."""
    simulation = _Simulation(plan, budget, startup_seconds)
    simulation.run()
    durations = [expected_seconds(a) + startup_seconds for a in plan]
    makespan_seconds = simulation.now
    return Prediction(
        makespan_seconds=makespan_seconds,
        test_seconds=sum(durations),
        longest_seconds=max(durations, default=0.0),
        utilisation={name: area / makespan_seconds for name, area in simulation.areas.items()}
        if makespan_seconds > 0
        else {},
        bound_seconds=simulation.bound_seconds,
        tests=len(plan),
        unknown=sum(a.history is None for a in plan),
    )


class _Simulation:
    def __init__(self, plan: Sequence[Assignment], budget: Budget, startup_seconds: float) -> None:
        self.now = 0.0
        self.areas = {"cpus": 0.0, "memory": 0.0, "slots": 0.0}
        """Share of the budget taken, times seconds."""
        self.bound_seconds: dict[str, float] = {}
        self._admission = Admission(budget=budget)
        self._line = Line(
            Waiting(rank=rank, need=need_of(a), expected_seconds=expected_seconds(a) + startup_seconds)
            for rank, a in enumerate(order(plan))
        )
        self._running: dict[int, Running] = {}
        self._ends: list[tuple[float, int]] = []

    def run(self) -> None:
        self._fill()
        while self._ends:
            ends_at, rank = heappop(self._ends)
            self._pass(ends_at - self.now)
            self.now = ends_at
            need = self._running.pop(rank).need
            self._admission = self._admission.give(need)
            self._line.release(need.group)
            self._fill()

    def _fill(self) -> None:
        while waiting := self._line.pick(self._admission, self._running.values(), self.now):
            self._admission = self._admission.take(waiting.need)
            ends_at = self.now + waiting.expected_seconds
            self._running[waiting.rank] = Running(need=waiting.need, expected_end=ends_at)
            heappush(self._ends, (ends_at, waiting.rank))

    def _pass(self, seconds: float) -> None:
        """Account for a stretch of time in which nothing starts or ends."""
        if seconds <= 0:
            return
        taken, budget = self._admission, self._admission.budget
        self.areas["cpus"] += seconds * taken.millicpus / (budget.cpus * 1000)
        self.areas["memory"] += seconds * taken.memory_bytes / budget.memory_bytes
        self.areas["slots"] += seconds * taken.running / budget.slots
        limit = self._bound()
        if limit is not None:
            self.bound_seconds[limit] = self.bound_seconds.get(limit, 0.0) + seconds

    def _bound(self) -> str | None:
        """What keeps the first in line; where only members of running groups are left, their group."""
        head = self._line.head
        if head is not None:
            return self._admission.binding(head.need)
        return "group" if len(self._line) else None

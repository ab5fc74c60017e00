"""How close the scheduler comes to the shortest possible run: its makespan over a lower bound, on a simulated
clock.

The real scheduler runs plans of 1,000 tests; only the threads and the clock are simulated, so that an hour of
tests takes a second. No schedule can beat the lower bound: CPU seconds over CPUs, memory seconds over memory, and
the longest test. It may be unattainable: the `searched` column is the best of some other orders for the same plan
(random ones and greedy ones), without any rule of fairness.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
from collections import deque
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.model.evidence import Evidence, OutputLog, Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.results import Attempt
from orchestrator.model.tests import Assignment, Command, History, Test, TestId
from orchestrator.scheduling.admission import Admission, Budget, Need
from orchestrator.scheduling.events import Policy
from orchestrator.scheduling.scheduler import Schedule
from orchestrator.scheduling.worker_threads import Completion
from orchestrator.stop_flag import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

TESTS = 1000
MIB = 1 << 20
GIB = 1 << 30
TARGET = 1.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The duration and needs of one test."""

    seconds: float
    cpus: float
    memory_bytes: int
    expected_seconds: float
    """The duration by its history, which may be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A plan and the budget that it runs with."""

    loads: tuple[Load, ...]
    budget: Budget

    @property
    def bounds(self) -> dict[str, float]:
        """Resource -> seconds that no schedule can be shorter than."""
        return {
            "cpus": sum(one.seconds * one.cpus for one in self.loads) / self.budget.cpus,
            "memory": sum(one.seconds * one.memory_bytes for one in self.loads) / self.budget.memory_bytes,
            "slots": sum(one.seconds for one in self.loads) / self.budget.slots,
            "longest": max(one.seconds for one in self.loads),
        }


class SimulatedWorkers:
    """The workers of a schedule, on a clock that advances only when a completion is awaited."""

    def __init__(self, seconds: dict[TestId, float]) -> None:
        self.now = 0.0
        self.error: BaseException | None = None
        self._seconds = seconds
        self._workers: dict[int, deque[tuple[int, Assignment]]] = {}
        """Worker number -> its items; the first one is running."""
        self._ends: list[tuple[float, int]] = []

    def submit(self, worker: int, rank: int, assignment: Assignment, waits_since: float) -> None:
        assert waits_since <= self.now
        queue = self._workers.setdefault(worker, deque())
        queue.append((rank, assignment))
        if len(queue) == 1:
            self._begin(worker)

    def _begin(self, worker: int) -> None:
        heappush(self._ends, (self.now + self._seconds[self._workers[worker][0][1].test.id], worker))

    def cancel_pending(self, worker: int, current: int | None) -> Collection[int]:
        queue = self._workers[worker]
        assert queue[0][0] == current
        taken = [rank for rank, _ in list(queue)[1:]]
        self._workers[worker] = deque([queue[0]])
        return taken

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        pass

    def next_completion(self, timeout_seconds: float, linger_seconds: float = 0.0) -> Completion | None:
        del timeout_seconds, linger_seconds
        self.now, worker = heappop(self._ends)
        rank, assignment = self._workers[worker].popleft()
        if self._workers[worker]:
            self._begin(worker)
        return Completion(worker, rank, replace(PASSED, assignment=assignment), None)

    @property
    def drained(self) -> bool:
        return False

    def close(self) -> None:
        assert not self._ends


def profile(reuse: int) -> Profile:
    limits = Limits(
        cpus=64.0,
        memory_bytes=1 << 40,
        timeout_seconds=1e6,
        tmpfs_bytes=MIB,
        tmpfs_inodes=100,
        outputs_bytes=MIB,
        shm_bytes=MIB,
        pids=64,
        nofile=64,
        log_bytes=MIB,
    )
    return Profile(name="any", limits=limits, network=Network.NONE, image="any", reuse=reuse)


def assignment_of(number: int, load: Load, where: Profile) -> Assignment:
    history = History(
        attempts=20,
        duration_seconds_p95=load.expected_seconds,
        memory_bytes_p95=load.memory_bytes,
        cpus_p95=load.cpus,
        last_outcome=Outcome.PASSED,
    )
    test = Test(id=TestId(path=f"t{number}"), suite="any", command=Command(argv=("true",)))
    return Assignment(run_id="run", test=test, profile=where, reason="", history=history)


_LOG = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
PASSED = Attempt(
    id="",
    assignment=assignment_of(0, Load(seconds=1.0, cpus=1.0, memory_bytes=1, expected_seconds=1.0), profile(1)),
    outcome=Outcome.PASSED,
    message="",
    exit_code=0,
    signal=None,
    evidence=Evidence(
        agent=None,
        engine=None,
        stdout=_LOG,
        stderr=_LOG,
        timings=Timings(),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
)


def makespan(case: Case, *, reuse: int = 1) -> float:
    """Return the seconds that orch's scheduler takes for the case."""
    where = profile(reuse)
    plan = [assignment_of(number, load, where) for number, load in enumerate(case.loads)]
    workers = SimulatedWorkers({a.test.id: load.seconds for a, load in zip(plan, case.loads, strict=True)})
    going = Schedule(
        plan,
        workers,
        budget=case.budget,
        policy=Policy(),
        stop=StopFlag(),
        profiles={},
        on_event=lambda _event: None,
        clock=lambda: workers.now,
    )
    assert sum(1 for _ in going) == len(case.loads)
    return workers.now


def ratio(case: Case, *, reuse: int = 1) -> float:
    """Return the makespan over the lower bound; 1 is perfect."""
    return makespan(case, reuse=reuse) / max(case.bounds.values())


# ---------------------------------------------------------------- the best of other orders, as a comparison


def list_schedule(loads: Iterable[Load], budget: Budget, *, depth: int = TESTS) -> float:
    """Return the makespan of starting whatever fits in the given order, however long others wait."""
    waiting = [(one, Need(cpus=one.cpus, memory_bytes=one.memory_bytes)) for one in loads]
    admission, now = Admission(budget=budget), 0.0
    ends: list[tuple[float, int, Need]] = []
    number = 0
    while waiting or ends:
        left = []
        millicpus, room = admission.room
        for index, (one, need) in enumerate(waiting):
            if index >= depth or admission.full:
                left += waiting[index:]
                break
            if (need.millicpus > millicpus or need.memory_bytes > room) and admission.running:
                left.append((one, need))
                continue
            admission = admission.take(need)
            millicpus, room = admission.room
            number += 1
            heappush(ends, (now + one.seconds, number, need))
        waiting = left
        now, _, need = heappop(ends)
        admission = admission.give(need)
    return now


def searched(case: Case, rng: random.Random, orders: int) -> float:
    """Return the shortest makespan of `orders` random orders and some greedy ones, with exact durations."""
    budget = case.budget

    def share(one: Load) -> float:
        return max(one.cpus / budget.cpus, one.memory_bytes / budget.memory_bytes)

    keys: list[Callable[[Load], float]] = [
        lambda one: one.seconds,
        lambda one: one.seconds * share(one),
        share,
        lambda one: one.seconds * one.cpus,
        lambda one: one.seconds * one.memory_bytes,
    ]
    best = min(list_schedule(sorted(case.loads, key=key, reverse=True), budget) for key in keys)
    loads = list(case.loads)
    for _ in range(orders):
        power = rng.uniform(0.0, 1.0)
        loads.sort(key=lambda one: one.seconds * share(one) ** power * rng.uniform(0.6, 1.4), reverse=True)
        best = min(best, list_schedule(loads, budget))
    return best


# ---------------------------------------------------------------- shapes

EIGHT = Budget(cpus=8.0, memory_bytes=16 * GIB, slots=64)
TWO = Budget(cpus=2.0, memory_bytes=8 * GIB, slots=64)


def load(seconds: float, cpus: float, memory_bytes: float, expected: float | None = None) -> Load:
    return Load(seconds=seconds, cpus=cpus, memory_bytes=int(memory_bytes), expected_seconds=expected or seconds)


def memory(rng: random.Random) -> float:
    return min(rng.lognormvariate(4.3, 0.8), 2000) * MIB  # median 74 MiB


def cpus(rng: random.Random) -> float:
    """Return the CPUs of a test; most wait as much as they compute."""
    return 0.05 + 0.95 * rng.betavariate(2, 2)


def lognormal(rng: random.Random) -> Case:
    return Case(
        loads=tuple(load(rng.lognormvariate(0, 1.2), cpus(rng), memory(rng)) for _ in range(TESTS)), budget=EIGHT
    )


def two_cpus(rng: random.Random) -> Case:
    return replace(lognormal(rng), budget=TWO)


def heavy_tail(rng: random.Random) -> Case:
    def seconds() -> float:
        return min(0.2 * rng.paretovariate(1.1), 60.0)

    return Case(loads=tuple(load(seconds(), cpus(rng), memory(rng)) for _ in range(TESTS)), budget=EIGHT)


def few_big(rng: random.Random) -> Case:
    def one() -> Load:
        if rng.random() < 0.05:
            return load(rng.lognormvariate(1.5, 0.8), cpus(rng), rng.uniform(2, 7) * GIB)
        return load(rng.lognormvariate(0, 1.0), cpus(rng), memory(rng))

    return Case(loads=tuple(one() for _ in range(TESTS)), budget=EIGHT)


def memory_bound(rng: random.Random) -> Case:
    def one() -> Load:
        return load(
            rng.lognormvariate(0, 1.2), 0.05 + 0.3 * rng.random(), min(rng.lognormvariate(6.5, 0.8), 8000) * MIB
        )

    return Case(loads=tuple(one() for _ in range(TESTS)), budget=EIGHT)


def both_bound(rng: random.Random) -> Case:
    """Return tests that need much CPU and little memory, or the reverse; both resources are scarce."""

    def one() -> Load:
        lean = rng.random()
        return load(rng.lognormvariate(0, 1.2), 0.1 + 1.4 * lean, (200 + 2600 * (1 - lean)) * MIB)

    return Case(loads=tuple(one() for _ in range(TESTS)), budget=EIGHT)


def estimates_off(rng: random.Random) -> Case:
    """Return lognormal tests whose p95 by history is 5 to 60 % above their duration."""

    def one() -> Load:
        seconds = rng.lognormvariate(0, 1.2)
        return load(seconds, cpus(rng), memory(rng), seconds * rng.uniform(1.05, 1.6))

    return Case(loads=tuple(one() for _ in range(TESTS)), budget=EIGHT)


SHAPES: dict[str, Callable[[random.Random], Case]] = {
    "lognormal": lognormal,
    "lognormal, 2 cpus": two_cpus,
    "heavy tail": heavy_tail,
    "few big": few_big,
    "memory bound": memory_bound,
    "cpus and memory": both_bound,
    "estimates off": estimates_off,
}


def recorded(file: Path) -> Callable[[random.Random], Case]:
    """Return a shape of durations and needs drawn, with replacement, from the passed attempts of a database."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT test_seconds, cpu_seconds, memory_peak_bytes FROM attempts WHERE outcome = 'passed'"
            " AND test_seconds > 0 AND cpu_seconds IS NOT NULL AND memory_peak_bytes IS NOT NULL"
        ).fetchall()
    loads = [load(seconds, min(cpu / seconds, 2.0), peak) for seconds, cpu, peak in rows]

    def draw(rng: random.Random) -> Case:
        return Case(loads=tuple(rng.choices(loads, k=TESTS)), budget=EIGHT)

    return draw


# ---------------------------------------------------------------- the table


def measure(draw: Callable[[random.Random], Case], *, seeds: int, orders: int) -> dict[str, object]:
    """Return the ratios over the seeds, and the resource with the highest bound."""
    cases = [draw(random.Random(seed)) for seed in range(seeds)]
    ratios = [ratio(case) for case in cases]
    worst = max(range(seeds), key=lambda seed: ratios[seed])
    bounds = cases[worst].bounds
    best = searched(cases[worst], random.Random(worst), orders) / max(bounds.values())
    return {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "reused_median": statistics.median(ratio(case, reuse=100) for case in cases[:5]),
        "searched_worst": best,
        "bound": max(bounds, key=lambda name: bounds[name]),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--orders", type=int, default=30, help="random orders in the search, for the worst seed")
    parser.add_argument("--database", type=Path, help="draw lengths and needs from it too")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    shapes = dict(SHAPES)
    if given.database is not None:
        shapes["recorded"] = recorded(given.database)
    table = {}
    print(f"{'shape':<20} {'median':>7} {'least':>7} {'most':>7} {'reused':>7} {'searched':>9}  bound")
    for name, draw in shapes.items():
        row = table[name] = measure(draw, seeds=given.seeds, orders=given.orders)
        print(
            f"{name:<20} {row['median']:7.4f} {row['least']:7.4f} {row['most']:7.4f}"
            f" {row['reused_median']:7.4f} {row['searched_worst']:9.4f}  {row['bound']}",
            flush=True,
        )
    if given.json is not None:
        given.json.write_text(
            json.dumps({"seeds": given.seeds, "shapes": table}, indent=1) + "\n", encoding="utf-8"
        )
    return 0

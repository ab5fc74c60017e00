"""Run a test under each condition of a diagnosis, with the scheduler and the executor of an ordinary run."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator.analysis.statistics import wilson_interval
from orchestrator.coordinator.diagnosis.background_load import BURNER, BackgroundLoad, burner_profile
from orchestrator.coordinator.executor import AttemptRunner
from orchestrator.model.flakiness import Condition, ConditionResult
from orchestrator.model.outcomes import FAILING, Outcome
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.events import Policy
from orchestrator.scheduling.retry import final_result
from orchestrator.scheduling.scheduler import schedule
from orchestrator.stop_flag import StopLevel
from orchestrator.text import format_bytes, one_line, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from orchestrator.coordinator.run_folder import RunFolder
    from orchestrator.database.store.store import Database
    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.model.profiles import Limits, Profile
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.runs import HostInfo
    from orchestrator.model.tests import Assignment
    from orchestrator.stop_flag import StopFlag

POLICY = Policy(promote=False)
LEAST_COPIES = 4
MOST_COPIES = 8
"""The number of copies of the test that run beside each other. Of copies that exclude each other, one passes."""
MEMORY_SHARE = 0.9
"""The share of the host's memory that copies of the test may use."""
REUSE = 1000
LITTLE_MARGIN = 1.05
"""The factor on the highest peak of its passes that gives the small memory limit."""
LEAST_MEMORY_BYTES = 8 << 20
LEAST_CPUS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosedTest:
    """The test to diagnose, with the tests that its history suspects."""

    assignment: Assignment
    neighbours: tuple[Assignment, ...] = ()
    predecessors: tuple[Assignment, ...] = ()
    """Tests that ran before it in the same container. If empty, the test itself is its predecessor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionSetup:
    """A condition with the plan that tests it and the load that runs beside it."""

    condition: Condition
    detail: str
    plan: Sequence[Assignment]
    background: Sequence[Callable[[], Assignment]] = ()
    skipped: str = ""


@dataclass(slots=True, kw_only=True)
class DiagnosisRunner:
    """Runs a test under one condition after another. Everything it starts has ended when `results` ends."""

    subject: DiagnosedTest
    runs: int
    executor: LocalExecutor
    folder: RunFolder
    database: Database
    host: HostInfo
    stop: StopFlag
    background_containers: list[tuple[int, int, int]] = field(default_factory=list)
    """The numbers of containers expected, created and removed, for each background load."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """The numbers of repetitions, which tell the attempts of the diagnosis apart."""
    _peak_bytes: int | None = None

    def results(self) -> Iterator[ConditionResult]:
        """Yield the result of each condition as soon as it is known; end early after `stop` has risen."""
        makers = (
            self._alone,
            self._with_itself,
            self._with_neighbours,
            self._reused,
            self._half_cpus,
            self._busy_host,
            self._little_memory,
        )
        for make in makers:
            if self.stop.level is not StopLevel.RUN:
                return
            setup = make()
            result = _skipped(setup) if setup.skipped else self._run_setup(setup)
            yield result
            if setup.condition is Condition.ALONE and not result.total:
                return  # the other conditions would have no result to be compared with

    # ------------------------------------------------------------ the conditions

    def _alone(self) -> ConditionSetup:
        return ConditionSetup(
            condition=Condition.ALONE,
            detail="in a fresh container, nothing beside it",
            plan=self._plan(Condition.ALONE),
        )

    def _with_itself(self) -> ConditionSetup:
        limits = self.subject.assignment.profile.limits
        room = int(self.host.memory_bytes * MEMORY_SHARE / limits.memory_bytes)
        twice = math.ceil(2 * self.host.cpus / limits.cpus)  # twice the CPUs of the machine
        copies = min(MOST_COPIES, max(LEAST_COPIES, twice), room)
        itself = self.subject.assignment
        return ConditionSetup(
            condition=Condition.ITSELF,
            detail=f"{copies} at once",
            plan=self._plan(Condition.ITSELF),
            background=[self._maker(itself, replace(itself.profile, reuse=REUSE))] * (copies - 1),
            skipped="" if room >= 2 else "the memory of this machine does not hold two copies",
        )

    def _with_neighbours(self) -> ConditionSetup:
        neighbours = self.subject.neighbours
        return ConditionSetup(
            condition=Condition.NEIGHBOURS,
            detail=_names(neighbours),
            plan=self._plan(Condition.NEIGHBOURS),
            background=[self._maker(one, replace(one.profile, reuse=REUSE)) for one in neighbours],
            skipped="" if neighbours else "no recorded test ran beside it when it failed",
        )

    def _reused(self) -> ConditionSetup:
        itself = self.subject.assignment
        before = self.subject.predecessors or (itself,)
        profile = replace(itself.profile, reuse=REUSE)
        tests = [
            self._repeated(one, profile, Condition.REUSED) for _ in range(self.runs) for one in (*before, itself)
        ]
        if not self.subject.predecessors:
            tests = [self._repeated(itself, profile, Condition.REUSED) for _ in range(self.runs + 1)]
        return ConditionSetup(condition=Condition.REUSED, detail=f"after {_names(before)}", plan=tests)

    def _half_cpus(self) -> ConditionSetup:
        limits = self.subject.assignment.profile.limits
        cpus = max(limits.cpus / 2, LEAST_CPUS)
        return ConditionSetup(
            condition=Condition.HALF_CPUS,
            detail=f"{cpus:g} instead of {limits.cpus:g}",
            plan=self._plan(Condition.HALF_CPUS, replace(limits, cpus=cpus)),
        )

    def _busy_host(self) -> ConditionSetup:
        count = math.ceil(self.host.cpus)
        burner = replace(self.subject.assignment, test=BURNER)
        make = self._maker(burner, burner_profile(burner.profile))
        return ConditionSetup(
            condition=Condition.BUSY_HOST,
            detail=f"{plural(count, 'container')} that use{'s' if count == 1 else ''} one CPU each",
            plan=self._plan(Condition.BUSY_HOST),
            background=[make] * count,
        )

    def _little_memory(self) -> ConditionSetup:
        limits = self.subject.assignment.profile.limits
        wanted = limits.memory_bytes // 2 if self._peak_bytes is None else int(self._peak_bytes * LITTLE_MARGIN)
        memory = max(wanted, LEAST_MEMORY_BYTES)
        of = "half its limit" if self._peak_bytes is None else "its peak alone and 5 %"
        enough = memory >= limits.memory_bytes
        return ConditionSetup(
            condition=Condition.LITTLE_MEMORY,
            detail=f"{format_bytes(memory)}, {of}, instead of {format_bytes(limits.memory_bytes)}",
            plan=() if enough else self._plan(Condition.LITTLE_MEMORY, _with_memory(limits, memory)),
            skipped="its limit is not higher than its need" if enough else "",
        )

    # ------------------------------------------------------------ assignments

    def _plan(self, condition: Condition, limits: Limits | None = None) -> list[Assignment]:
        """Return `runs` assignments of the test, each in a fresh container."""
        itself = self.subject.assignment
        profile = replace(itself.profile, reuse=1, limits=limits or itself.profile.limits)
        return [self._repeated(itself, profile, condition) for _ in range(self.runs)]

    def _maker(self, one: Assignment, profile: Profile) -> Callable[[], Assignment]:
        return lambda: self._repeated(one, profile, None)

    def _repeated(self, one: Assignment, profile: Profile, condition: Condition | None) -> Assignment:
        return replace(
            one,
            run_id=self.subject.assignment.run_id,
            profile=profile,
            reason=f"diagnosis: {condition.value}" if condition else "diagnosis: background load",
            repetition=next(self._numbers),
            attempt=1,
            retries=0,
            exclusive=False,
            group=None,
            history=None,  # keeps the order of the plan
        )

    # ------------------------------------------------------------ carrying it out

    def _run_setup(self, setup: ConditionSetup) -> ConditionResult:
        background = BackgroundLoad(self.executor, self.folder) if setup.background else None
        seen: list[Attempt] = []
        with ExitStack() as stack:
            if background is not None:
                stack.enter_context(background.running(setup.background, stop=self.stop))
            for result in self._schedule(setup):
                self.database.record(self.subject.assignment.run_id, result)
                seen += result.attempts
        if background is not None:
            self._record_background(background)
        counted = [a for a in seen if self._is_counted(a, setup.condition)]
        if setup.condition is Condition.ALONE:
            self._peak_bytes = _highest_peak(counted)
        return _result(setup, counted, seen)

    def _schedule(self, setup: ConditionSetup) -> Iterable[TestResult]:
        profile = self.subject.assignment.profile
        needs = [a.profile.limits for a in setup.plan]
        return schedule(
            setup.plan,
            AttemptRunner(self.executor, self.folder, judge_budgets=False),
            budget=Budget(
                cpus=max(limits.cpus for limits in needs),
                memory_bytes=max(limits.memory_bytes for limits in needs),
                slots=1,
            ),
            policy=POLICY,
            stop=self.stop,
            profiles={profile.name: profile},
            on_event=lambda _: None,
        )

    def _record_background(self, background: BackgroundLoad) -> None:
        """Record the attempts of a background load, except burners, which are not tests of the project.

        Raises the first error of its threads.
        """
        self.background_containers.append(background.containers)
        for attempt in background.attempts:
            if attempt.assignment.test is not BURNER:
                self.database.record_soon(self.subject.assignment.run_id, final_result([attempt], POLICY))
        if background.errors:
            raise background.errors[0]

    def _is_counted(self, attempt: Attempt, condition: Condition) -> bool:
        """Return whether the attempt counts as evidence about the test under this condition.

        Second attempts do not count, because they run in a fresh slot to confirm the first.
        """
        own = attempt.assignment.test.id == self.subject.assignment.test.id and attempt.assignment.attempt == 1
        judged = attempt.outcome is Outcome.PASSED or attempt.outcome in FAILING
        return own and judged and (condition is not Condition.REUSED or attempt.evidence.slot.position > 1)


def _with_memory(limits: Limits, memory_bytes: int) -> Limits:
    """Return the limits with less memory; sizes of tmpfs mounts, which use memory, are lowered with it."""
    return replace(
        limits,
        memory_bytes=memory_bytes,
        tmpfs_bytes=min(limits.tmpfs_bytes, memory_bytes),
        outputs_bytes=min(limits.outputs_bytes, memory_bytes),
        shm_bytes=min(limits.shm_bytes, memory_bytes),
    )


def _highest_peak(attempts: Sequence[Attempt]) -> int | None:
    passed = [a.evidence.usage.memory_peak_bytes for a in attempts if a.outcome is Outcome.PASSED]
    return max((peak for peak in passed if peak is not None), default=None)


def _names(assignments: Sequence[Assignment]) -> str:
    return ", ".join(one_line(str(one.test.id), 200) for one in assignments)


def _skipped(setup: ConditionSetup) -> ConditionResult:
    return ConditionResult(
        condition=setup.condition, detail=setup.detail, failed=0, total=0, low=0.0, high=1.0, skipped=setup.skipped
    )


def _result(setup: ConditionSetup, counted: Sequence[Attempt], seen: Sequence[Attempt]) -> ConditionResult:
    failures = [a for a in counted if a.outcome in FAILING]
    low, high = wilson_interval(len(failures), len(counted))
    lost = next((a.message for a in seen if a.outcome is Outcome.INFRA), "")
    why = f"nothing could be judged{': ' + one_line(lost) if lost else ''}"
    return ConditionResult(
        condition=setup.condition,
        detail=setup.detail,
        failed=len(failures),
        total=len(counted),
        low=low,
        high=high,
        ends=Counter(a.outcome for a in failures),
        message=failures[0].message if failures else "",
        skipped="" if counted else why,
    )

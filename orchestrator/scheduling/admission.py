"""How many tests the machine takes at a time: needs against a budget, pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.model.suites import Preload

if TYPE_CHECKING:
    from orchestrator.model.tests import Assignment

ENOUGH_ATTEMPTS = 3
"""From this many earlier attempts on, history is believed more than limits."""

SHARED_BYTES = 80 << 20
"""Stands charged beside a test that is forked: 33 MiB were measured for a pytest with its first template, 13 for
each of three more.
"""
SINGLE_CPUS = 1.0
"""A test that computes in one thread, as most do and every plain pytest."""
MORE_THAN_ONE = 0.25
"""So much above a whole number of CPUs is taken for inaccuracy and for what runs beside the test's main work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What this run may use of the machine at one time."""

    cpus: float
    memory_bytes: int
    slots: int
    """Tests at one time, at least 1."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"a budget needs at least 1 slot, not {self.slots}")
        if self.cpus <= 0 or self.memory_bytes <= 0:
            raise ValueError(f"a budget of {self.cpus} CPUs and {self.memory_bytes} bytes runs nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one test takes from the budget while it runs."""

    cpus: float
    """Counted to the nearest thousandth of a CPU."""
    memory_bytes: int
    exclusive: bool = False
    """Runs alone."""
    group: str | None = None
    """At most one test of a group runs at a time."""
    millicpus: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "millicpus", _millicpus(self.cpus))

    def covers(self, other: Need) -> bool:
        """As much of everything, or more."""
        return other is self or (other.cpus <= self.cpus and other.memory_bytes <= self.memory_bytes)

    def covering(self, other: Need) -> Need:
        """Enough for either of two that do not run at the same time; alone and in its group as this one."""
        if self.covers(other):
            return self
        cpus, memory_bytes = max(self.cpus, other.cpus), max(self.memory_bytes, other.memory_bytes)
        return Need(cpus=cpus, memory_bytes=memory_bytes, exclusive=self.exclusive, group=self.group)


def need_of(assignment: Assignment) -> Need:
    """The p95 of the test's history where there are at least 3 attempts. Before that the limits for memory, and a
    cautious estimate for CPUs (docs/design/first-runs.md). Never more than the limits, beyond which nothing can be
    used, and what the test is forked from.
    """
    limits, history = assignment.profile.limits, assignment.history
    cpus, memory_bytes = limits.cpus, limits.memory_bytes
    if history is None or history.attempts < ENOUGH_ATTEMPTS:
        cpus = min(cpus, _estimated_cpus(assignment))
    else:
        if history.cpus_p95 is not None:
            cpus = min(cpus, history.cpus_p95)
        if history.memory_bytes_p95 is not None:
            memory_bytes = min(memory_bytes, history.memory_bytes_p95)
    memory_bytes += SHARED_BYTES if _is_forked(assignment) else 0
    return Need(cpus=cpus, memory_bytes=memory_bytes, exclusive=assignment.exclusive, group=assignment.group)


def whole_cpus(seen: float) -> float:
    """CPUs that were seen to be used, rounded up to whole ones: what is known of few runs only."""
    return max(SINGLE_CPUS, math.ceil(seen - MORE_THAN_ONE))


def _estimated_cpus(assignment: Assignment) -> float:
    """CPUs of a test of which little is known. If it is too little, tests that run together take longer: none is
    killed for it, and one that runs out of time in a reused slot is confirmed with all that its limits promise.
    """
    limit, history = assignment.profile.limits.cpus, assignment.history
    if assignment.attempt > 1:
        return limit
    if history is not None and history.cpus_p95 is not None:
        return whole_cpus(history.cpus_p95)
    return max(SINGLE_CPUS, limit / 2) if _is_forked(assignment) else limit


def _is_forked(assignment: Assignment) -> bool:
    """From a pytest that its container has started before."""
    first = assignment.attempt == 1 and assignment.profile.reuse > 1
    return first and assignment.test.command.preload is not Preload.OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What is taken of a budget at one moment. Immutable: `take` and `give` return the state after.

    CPUs are counted in whole thousandths, so that `give` undoes `take` exactly, which floats would not.
    """

    budget: Budget
    running: int = 0
    millicpus: int = 0
    memory_bytes: int = 0
    exclusive: bool = False
    """The one test that runs is an exclusive one."""
    groups: frozenset[str] = frozenset()
    """Groups of which a test runs."""

    @property
    def full(self) -> bool:
        """Nothing at all can be added."""
        return self.exclusive or self.running >= self.budget.slots

    @property
    def room(self) -> tuple[int, int]:
        """Thousandths of a CPU and bytes of memory that are not taken; below 0 while a test that is larger
        than the budget runs.
        """
        return _millicpus(self.budget.cpus) - self.millicpus, self.budget.memory_bytes - self.memory_bytes

    def fits(self, need: Need) -> bool:
        """True if the test may start now. On an idle machine every test may, also one that is larger than the
        whole budget: it runs alone, and nothing waits for ever.
        """
        return self.binding(need) is None

    def binding(self, need: Need) -> str | None:  # noqa: PLR0911 - one line for each limit
        """The limit that keeps the test waiting: exclusive, slots, group, memory or cpus. None: it fits."""
        if self.running == 0:
            return None
        if self.exclusive or need.exclusive:
            return "exclusive"
        if self.running >= self.budget.slots:
            return "slots"
        if need.group is not None and need.group in self.groups:
            return "group"
        if self.memory_bytes + need.memory_bytes > self.budget.memory_bytes:
            return "memory"
        if self.millicpus + need.millicpus > _millicpus(self.budget.cpus):
            return "cpus"
        return None

    def take(self, need: Need) -> Admission:
        """The state once a test that fits has started."""
        return Admission(
            budget=self.budget,
            running=self.running + 1,
            millicpus=self.millicpus + need.millicpus,
            memory_bytes=self.memory_bytes + need.memory_bytes,
            exclusive=need.exclusive,
            groups=self.groups if need.group is None else self.groups | {need.group},
        )

    def give(self, need: Need) -> Admission:
        """The state once a test that was taken has ended."""
        return Admission(
            budget=self.budget,
            running=self.running - 1,
            millicpus=self.millicpus - need.millicpus,
            memory_bytes=self.memory_bytes - need.memory_bytes,
            exclusive=False,
            groups=self.groups if need.group is None else self.groups - {need.group},
        )


def _millicpus(cpus: float) -> int:
    return round(cpus * 1000)

"""Decide which tests may run at one time, by their needs and a budget. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.model.suites import Preload

if TYPE_CHECKING:
    from orchestrator.model.tests import Assignment

ENOUGH_ATTEMPTS = 3
"""Smallest number of earlier attempts with which the history is used instead of the limits."""

SHARED_BYTES = 80 << 20
"""The memory of the preloaded pytest that is charged beside a forked test: 33 MiB were measured with one template,
and 13 for each of three more.
"""
SINGLE_CPUS = 1.0
"""The CPUs of a test that computes in one thread, as most tests do."""
MORE_THAN_ONE = 0.25
"""The excess above a whole number of CPUs that is ignored as inaccuracy or work beside the test's main thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The part of the machine that a run may use at one time."""

    cpus: float
    memory_bytes: int
    slots: int
    """The largest number of tests at one time, at least 1."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"a budget needs at least 1 slot, not {self.slots}")
        if self.cpus <= 0 or self.memory_bytes <= 0:
            raise ValueError(f"a budget of {self.cpus} CPUs and {self.memory_bytes} bytes runs nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The part of the budget that one test takes while it runs."""

    cpus: float
    """CPUs, rounded to the nearest thousandth."""
    memory_bytes: int
    exclusive: bool = False
    """True if the test must run alone."""
    group: str | None = None
    """The name of a group of which at most one test runs at a time."""
    millicpus: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "millicpus", _millicpus(self.cpus))

    def covers(self, other: Need) -> bool:
        """Return whether this need is at least as large as `other` for every resource."""
        return other is self or (other.cpus <= self.cpus and other.memory_bytes <= self.memory_bytes)

    def covering(self, other: Need) -> Need:
        """Return a need that suffices for either of two tests that run one after the other; `exclusive` and
        `group` are kept.
        """
        if self.covers(other):
            return self
        cpus, memory_bytes = max(self.cpus, other.cpus), max(self.memory_bytes, other.memory_bytes)
        return Need(cpus=cpus, memory_bytes=memory_bytes, exclusive=self.exclusive, group=self.group)


def need_of(assignment: Assignment) -> Need:
    """Return the need of a test.

    With at least 3 earlier attempts it is the p95 of the test's history; before that the limit for memory and a
    cautious estimate for CPUs (docs/design/scheduling/first-runs.md). It is never more than the limits, because
    the test cannot use more. The memory of the process that it is forked from is added.
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
    memory_bytes += SHARED_BYTES if is_forked(assignment) else 0
    return Need(cpus=cpus, memory_bytes=memory_bytes, exclusive=assignment.exclusive, group=assignment.group)


def whole_cpus(seen: float) -> float:
    """Return observed CPUs rounded up to whole ones, for tests of which few runs are known."""
    return max(SINGLE_CPUS, math.ceil(seen - MORE_THAN_ONE))


def _estimated_cpus(assignment: Assignment) -> float:
    """Return the estimated CPUs of a test with little history.

    If the estimate is too low, tests that run together take longer, but none is killed: a test that times out in a
    reused slot is confirmed with its full limits.
    """
    limit, history = assignment.profile.limits.cpus, assignment.history
    if assignment.attempt > 1:
        return limit
    if history is not None and history.cpus_p95 is not None:
        return whole_cpus(history.cpus_p95)
    return max(SINGLE_CPUS, limit / 2) if is_forked(assignment) else limit


def is_forked(assignment: Assignment) -> bool:
    """Return whether the test is forked from a pytest that its container has preloaded."""
    first = assignment.attempt == 1 and assignment.profile.reuse > 1
    return first and assignment.test.command.preload is not Preload.OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The part of a budget that is in use at one moment. Immutable: `take` and `give` return the new state.

    CPUs are counted in thousandths as integers, so that `give` undoes `take` exactly, which floats would not.
    """

    budget: Budget
    running: int = 0
    millicpus: int = 0
    memory_bytes: int = 0
    exclusive: bool = False
    """True if the only running test is an exclusive one."""
    groups: frozenset[str] = frozenset()
    """The groups of the running tests."""

    @property
    def full(self) -> bool:
        """True if no test at all can be added."""
        return self.exclusive or self.running >= self.budget.slots

    @property
    def room(self) -> tuple[int, int]:
        """The free millicpus and bytes of memory; negative while a test that is larger than the budget runs."""
        return _millicpus(self.budget.cpus) - self.millicpus, self.budget.memory_bytes - self.memory_bytes

    def fits(self, need: Need) -> bool:
        """Return whether the test may start now. On an idle machine every test may, even one larger than the whole
        budget, so that no test waits for ever.
        """
        return self.binding(need) is None

    def binding(self, need: Need) -> str | None:  # noqa: PLR0911 - one line for each limit
        """Return the limit that keeps the test waiting: exclusive, slots, group, memory or cpus. None: it fits."""
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
        """Return the state after a test that fits has started."""
        return Admission(
            budget=self.budget,
            running=self.running + 1,
            millicpus=self.millicpus + need.millicpus,
            memory_bytes=self.memory_bytes + need.memory_bytes,
            exclusive=need.exclusive,
            groups=self.groups if need.group is None else self.groups | {need.group},
        )

    def give(self, need: Need) -> Admission:
        """Return the state after a running test has ended."""
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

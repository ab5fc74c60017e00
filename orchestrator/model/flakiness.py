"""Flaky tests: their attempts with the circumstances of each, and the causes that were found.

Units are in the names, a missing figure is `None`, and times are timezone-aware UTC.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.model.outcomes import Outcome
    from orchestrator.model.tests import TestId

SWITCHES = 2
"""Number of changes between passing and failing from which on a test is flaky. A test that changed once was broken
or fixed.
"""


MINIMUM_FAILURES = 5
MINIMUM_PASSES = 5
"""Smallest numbers of failed and of passed attempts with which causes are searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptContext:
    """One judged attempt of a test, and the circumstances in which it ran."""

    run_id: str
    repetition: int
    started_at: datetime
    outcome: Outcome
    profile: str
    host: str
    """Digest of the machine's id."""
    duration_seconds: float
    throttled_ratio: float | None
    """Time in which it was throttled by its CPU limit, divided by its duration."""
    memory_ratio: float | None
    """Peak memory divided by the limit."""
    slot_position: int
    forked: bool
    others: float | None
    """Number of other tests of the run that ran at the same time, averaged over its duration. None: the run was
    not examined.
    """
    neighbours: frozenset[str] = frozenset()
    """Names of the tests of the run that ran at the same time, however briefly."""
    after: str | None = None
    """Name of the test before it in its container; None: there was none, or it is not known."""

    @property
    def failed(self) -> bool:
        """True if it failed, was ended by one of its limits, or crashed."""
        return self.outcome in FAILING


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyTest:
    """A test that both passed and failed."""

    test_id: TestId
    attempts: tuple[AttemptContext, ...]
    """The newest few hundred attempts, oldest first."""


def is_intermittent(outcomes: list[tuple[tuple[str, int], bool]]) -> bool:
    """Return True if attempts in order of time, each as ((run, repetition), failed), are those of a flaky test: it
    passed and failed within one repetition of a run, or changed between passing and failing at least twice.
    """
    seen: dict[tuple[str, int], bool] = {}
    for place, failed in outcomes:
        if seen.setdefault(place, failed) is not failed:
            return True
    return sum(a is not b for (_, a), (_, b) in itertools.pairwise(outcomes)) >= SWITCHES


class Factor(StrEnum):
    """Kind of circumstance that failures can have in common."""

    MEMORY = "memory"
    """Memory near its limit."""
    PARALLEL = "parallel"
    """Other tests at the same time."""
    REUSED = "reused"
    """A container that had run other tests before."""
    FORKED = "forked"
    """A fork of a preloaded runner."""
    HOST = "host"
    PROFILE = "profile"
    NEIGHBOUR = "neighbour"
    """A certain test at the same time."""
    AFTER = "after"
    """A certain test directly before it in the same container."""
    THROTTLED = "throttled"
    """Share of the time in which it was throttled by its CPU limit."""
    CROWD = "crowd"
    """Number of tests at the same time."""
    DURATION = "duration"


OTHER_TESTS = frozenset({Factor.NEIGHBOUR, Factor.AFTER})
"""Factors whose circumstances each name another test."""
MECHANISMS = frozenset({Factor.MEMORY, Factor.THROTTLED})
"""Factors by which a limit makes a test fail. They are named before other tests, which may be the reason why the
limit was reached.
"""
SYMPTOMS = frozenset({Factor.DURATION})
"""Factors that are rather an effect of a failure than its cause: named last, and never as the only cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstance:
    """A factor and its subject: the name of the other test, the host or the profile; empty for other factors."""

    factor: Factor
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCounts:
    """Number of failures among a number of attempts."""

    failed: int
    total: int

    @property
    def rate(self) -> float:
        """Failures divided by attempts; 0 if there were no attempts."""
        return self.failed / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A circumstance that distinguishes a test's failures from its passes more than chance would."""

    of: Circumstance
    chance: float
    """Probability that chance alone makes such a difference in any of the examined circumstances."""
    present: FailureCounts | None = None
    """Failures with the circumstance; `absent`: without it. None: the factor is a number."""
    absent: FailureCounts | None = None
    failed_median: float | None = None
    """Median of a numeric factor in failures (seconds, a ratio or a count); `passed_median`: in passes."""
    passed_median: float | None = None
    together_with: tuple[Circumstance, ...] = ()
    """Circumstances of exactly the same attempts (or of exactly the others); one of them may be the true cause."""

    @property
    def helps(self) -> bool:
        """True if the test fails less often with the circumstance."""
        return self.present is not None and self.absent is not None and self.present.rate < self.absent.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakinessFinding:
    """Failure rate of a test, and the circumstances that its failures have in common."""

    test_id: TestId
    failed: int
    total: int
    low: float
    """Lower end of the 95 % confidence interval (Wilson) of the failure rate; `high`: the upper end."""
    high: float
    ends: Mapping[Outcome, int] = field(default_factory=dict)
    """Outcome -> number of failures that had it."""
    tried: int = 0
    """Number of circumstances that differed between attempts and were tested."""
    missing: int = 0
    """Number of further failures, or passes, that are needed before causes are searched."""
    causes: tuple[Cause, ...] = ()
    """Causes, most certain first and symptoms last; empty: failures do not differ from passes."""

    @property
    def has_cause(self) -> bool:
        """True if a cause was found that is not only a symptom."""
        return any(cause.of.factor not in SYMPTOMS for cause in self.causes)

    @property
    def rate(self) -> float:
        """Failures divided by attempts."""
        return self.failed / self.total


# ---------------------------------------------------------------- diagnosis


class Condition(StrEnum):
    """Condition under which a diagnosis runs a test."""

    ALONE = "alone"
    ITSELF = "with itself"
    NEIGHBOURS = "with neighbours"
    REUSED = "in a reused slot"
    HALF_CPUS = "half its CPUs"
    BUSY_HOST = "busy host"
    LITTLE_MEMORY = "little memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """Results of a test under one condition."""

    condition: Condition
    detail: str = ""
    """Details of the condition: number of copies, names of neighbours, or the limit."""
    failed: int
    total: int
    """Number of attempts that were judged under the condition."""
    low: float
    """Lower end of the 95 % confidence interval (Wilson) of the failure rate; 0 if no attempt was judged."""
    high: float
    """Upper end of the interval; 1 if no attempt was judged."""
    ends: Mapping[Outcome, int] = field(default_factory=dict)
    message: str = ""
    """Message of the first failure."""
    skipped: str = ""
    """Reason why the condition was not tried; empty if it was."""
    chance: float | None = None
    """Probability that chance alone makes so many more failures than the condition `alone`, corrected for the
    number of comparisons; None: nothing to compare.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Results of one test under each condition."""

    test_id: TestId
    run_id: str
    results: tuple[ConditionResult, ...]
    culprits: tuple[Condition, ...] = ()
    """Conditions under which the test fails significantly more often than alone, most certain first."""
    interrupted: bool = False

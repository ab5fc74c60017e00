"""Tests that pass and fail: their attempts, the circumstances of each, and what was found in them.

Units are in the names, a missing figure is `None`, times are timezone-aware UTC, as in `model`.
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
"""A test that broke once, or was mended once, is not flaky; one that did both may be."""


MINIMUM_FAILURES = 5
MINIMUM_PASSES = 5
"""Fewer attempts that failed, or passed, say nothing of a cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptContext:
    """One judged attempt of a test, and what was going on around it."""

    run_id: str
    repetition: int
    started_at: datetime
    outcome: Outcome
    profile: str
    host: str
    """Digest of a machine's id."""
    duration_seconds: float
    throttled_ratio: float | None
    """Time it was held back by its CPU limit, over its duration."""
    memory_ratio: float | None
    """Peak over limit."""
    slot_position: int
    forked: bool
    others: float | None
    """How many other tests of the run ran beside it, on average over its time. None: the run was not looked at."""
    neighbours: frozenset[str] = frozenset()
    """Names of tests of the run that ran beside it for a moment at least."""
    after: str | None = None
    """The test before it in its container; None: there was none, or it is not known."""

    @property
    def failed(self) -> bool:
        """By its own fault, or that of its limits."""
        return self.outcome in FAILING


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyTest:
    """A test that passed and failed."""

    test_id: TestId
    attempts: tuple[AttemptContext, ...]
    """Oldest first; the newest few hundred."""


def goes_back_and_forth(outcomes: list[tuple[tuple[str, int], bool]]) -> bool:
    """Whether attempts in order of time, each as ((run, repetition), failed), are those of a flaky test: it passed
    and failed within one repetition of a run, or it both broke and was mended.
    """
    seen: dict[tuple[str, int], bool] = {}
    for place, failed in outcomes:
        if seen.setdefault(place, failed) is not failed:
            return True
    return sum(a is not b for (_, a), (_, b) in itertools.pairwise(outcomes)) >= SWITCHES


class Factor(StrEnum):
    """A circumstance that failures may have in common."""

    MEMORY = "memory"
    """It took nearly all that its limit allows."""
    PARALLEL = "parallel"
    """Beside other tests, not alone."""
    REUSED = "reused"
    """In a container that had run other tests before."""
    FORKED = "forked"
    """From a preloaded runner."""
    HOST = "host"
    PROFILE = "profile"
    NEIGHBOUR = "neighbour"
    """Beside a certain test."""
    AFTER = "after"
    """Right after a certain test in its container."""
    THROTTLED = "throttled"
    """Share of its time in which it was held back by its CPU limit."""
    CROWD = "crowd"
    """Number of tests beside it."""
    DURATION = "duration"


OTHER_TESTS = frozenset({Factor.NEIGHBOUR, Factor.AFTER})
"""Factors of which there is one for each test that was there."""
MECHANISMS = frozenset({Factor.MEMORY, Factor.THROTTLED})
"""How a limit makes a test fail: named before who was there, which may be why it was reached."""
SIGNS = frozenset({Factor.DURATION})
"""What rather comes of failing than leads to it: named last, and never alone as a cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstance:
    """A factor, and of what: the neighbour's name, the host, the profile; empty where there is only one."""

    factor: Factor
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many failures among so many attempts."""

    failed: int
    total: int

    @property
    def rate(self) -> float:
        """0 where there were no attempts."""
        return self.failed / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A circumstance that sets a test's failures apart from its passes by more than chance does."""

    of: Circumstance
    chance: float
    """Probability that nothing but chance makes so clear a difference in any of the circumstances looked at."""
    present: Share | None = None
    """With the circumstance, and `absent` without it. None: it is a figure."""
    absent: Share | None = None
    failed_median: float | None = None
    """Of a figure; seconds, a ratio or a count."""
    passed_median: float | None = None
    together_with: tuple[Circumstance, ...] = ()
    """Others that were there in exactly the same attempts (or exactly not): one of them may be the true cause."""

    @property
    def helps(self) -> bool:
        """It fails less where the circumstance is there."""
        return self.present is not None and self.absent is not None and self.present.rate < self.absent.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How often a test fails, and what its failures have in common."""

    test_id: TestId
    failed: int
    total: int
    low: float
    """95 % interval of the rate (Wilson)."""
    high: float
    ends: Mapping[Outcome, int] = field(default_factory=dict)
    """How the failures ended, and how often."""
    tried: int = 0
    """Circumstances that differed between attempts, and were looked at."""
    missing: int = 0
    """So many more failures, or passes, are needed before a cause is looked for."""
    causes: tuple[Cause, ...] = ()
    """Most certain first, mere signs last; empty: nothing sets failures apart."""

    @property
    def has_cause(self) -> bool:
        """More than a sign was found."""
        return any(cause.of.factor not in SIGNS for cause in self.causes)

    @property
    def rate(self) -> float:
        """Failures over attempts."""
        return self.failed / self.total


# ---------------------------------------------------------------- diagnosis


class Condition(StrEnum):
    """How a diagnosis ran a test."""

    ALONE = "alone"
    ITSELF = "with itself"
    NEIGHBOURS = "with neighbours"
    REUSED = "in a reused slot"
    HALF_CPUS = "half its CPUs"
    BUSY_HOST = "busy host"
    LITTLE_MEMORY = "little memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """What became of a test under one condition."""

    condition: Condition
    detail: str = ""
    """What exactly: how many copies, which neighbours, which limit."""
    failed: int
    total: int
    """Attempts that were judged under the condition."""
    low: float
    high: float
    """95 % interval of the rate (Wilson); 0 to 1 where nothing was judged."""
    ends: Mapping[Outcome, int] = field(default_factory=dict)
    message: str = ""
    """Of the first failure."""
    skipped: str = ""
    """Why it was not tried."""
    chance: float | None = None
    """Probability of so many more failures than alone without a cause, corrected; None: nothing to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A test under each condition."""

    test_id: TestId
    run_id: str
    results: tuple[ConditionResult, ...]
    culprits: tuple[Condition, ...] = ()
    """Conditions under which it fails more than alone, beyond chance; most certain first."""
    interrupted: bool = False

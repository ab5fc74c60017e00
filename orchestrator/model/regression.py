"""Resource regressions: figures of runs, and the result of comparing new runs with a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.model.tests import TestId


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Usage of one test in one run: the medians of its repetitions that passed."""

    run_id: str
    memory_peak_bytes: float | None
    duration_seconds: float
    cpu_seconds: float | None
    machine: str | None = None
    """Digest of the machine's id; None: not known."""
    launch: str | None = None
    """Way in which the test was started (`Launch`). Memory figures of different launches are not compared."""


class Judgement(StrEnum):
    """Result of comparing one figure of one test with the baseline."""

    GROWN = "grown"
    """A regression: the gate fails."""
    SUSPECTED = "suspected"
    """Above the tolerance, with too few new runs to rule out chance."""
    UNCHANGED = "unchanged"
    TOO_FEW = "too few runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of one test, new runs compared with old ones."""

    judgement: Judgement
    before: float | None
    """Median of the old runs."""
    now: float | None
    """Median of the new runs."""
    growth: float | None
    """Estimated growth; 0.15: 15 % more."""
    noise_floor: float | None
    """Growth that this number of consecutive runs can show without a cause."""
    chance: float | None
    """Bound on the probability that runs without growth look so much like growth; None: not computed."""
    old_runs: int
    new_runs: int
    missing_runs: int = 0
    """Number of further runs, new or old, that a judgement needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One figure of one test, as compared by a gate of `orch check`."""

    test_id: TestId
    resource: str
    """memory, time or cpu."""
    unit: str
    tolerance: float
    """Growth that is allowed; 0.1: 10 %."""
    comparison: Comparison

"""What a run wants of the scheduler, and what it is told while tests run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How often tests are tried, what counts as failed, and when the run ends early."""

    max_fail: int | None = None
    """After this many failed tests nothing new is started. None: no such limit."""
    flaky_fails: bool = False
    """A test that failed and then passed counts as failed."""
    deadline_seconds: float | None = None
    """For the whole run, from the first test; what then runs is terminated."""
    promote: bool = True
    """Give a test that its limits killed one run in the next profile up."""
    promoted_passes: bool = False
    """A test that passed only in the next profile up counts as passed. Not by default: under its own limits
    it does not work (docs/design/promotion.md).
    """
    infra_retries: int = 1
    """Further attempts after the engine failed; they are no flakiness and take nothing from `retries`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An attempt was handed to an executor."""

    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An attempt ended."""

    attempt: Attempt
    will_retry: bool
    next: Assignment | None = None
    """What is tried next: the same profile again, or the next one up. None: the test is done."""


@dataclass(frozen=True, slots=True)
class Idle:
    """All that has been answered is acted upon; the schedule waits for more."""


Event = Started | Finished | Idle

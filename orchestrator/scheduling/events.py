"""The scheduler's settings, and the events that it emits while tests run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for retries, for what counts as failed, and for when the run ends early."""

    max_fail: int | None = None
    """The number of failed tests after which no new test is started. None: no limit."""
    flaky_fails: bool = False
    """True if a test that failed and then passed counts as failed."""
    deadline_seconds: float | None = None
    """The time limit of the whole run from its first test; tests that still run then are terminated. None: no
    limit.
    """
    promote: bool = True
    """True if a test that its limits killed gets one attempt in the next larger profile."""
    promoted_passes: bool = False
    """True if a test that passed only in the next larger profile counts as passed. Off by default, because the
    test does not pass under its own limits (docs/design/scheduling/attempts.md).
    """
    infra_retries: int = 1
    """The number of further attempts after engine failures; they do not count as flaky or as retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Event: an attempt has started."""

    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Event: an attempt has ended."""

    attempt: Attempt
    will_retry: bool
    next: Assignment | None = None
    """The assignment of the next attempt, in the same or a larger profile. None: the test is done."""


@dataclass(frozen=True, slots=True)
class QueueDrained:
    """Event: all completed attempts have been handled, and the scheduler waits for more."""


Event = Started | Finished | QueueDrained

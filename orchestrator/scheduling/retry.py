"""Decide what follows an attempt: another attempt, or the test's final result. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING, Outcome
from orchestrator.model.results import TestResult, Verb, counted_attempts, deciding_attempt
from orchestrator.model.violations import ViolationKind
from orchestrator.scheduling.promotion import limits_killed, promote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.events import Policy

__all__ = ["FAILING", "final_result", "is_unconfirmed", "next_attempt", "verb_of"]

_VERBS = {
    Outcome.PASSED: Verb.PASS,
    Outcome.FAILED: Verb.FAIL,
    Outcome.TIMEOUT: Verb.TIMEOUT,
    Outcome.OOM: Verb.OOM,
    Outcome.CRASHED: Verb.CRASH,
    Outcome.INFRA: Verb.INFRA,
    Outcome.INTERRUPTED: Verb.STOPPED,
    Outcome.SKIPPED: Verb.SKIP,
}


def next_attempt(
    attempts: Sequence[Attempt],
    assignment: Assignment,
    *,
    policy: Policy,
    profiles: Mapping[str, Profile],
    budget: Budget,
) -> Assignment | None:
    """Return the assignment to run after the last of `attempts`, which ran `assignment`; None: the test is done.

    A test that overran because others had the CPUs runs once more, with no other test of this run beside it.

    A failure in a reused slot is first confirmed in a fresh one, which does not count as a retry. Every further
    attempt runs in a fresh slot.

    A test that its limits killed is promoted at once and not retried, because the same limits would kill it again.
    Only where there is no larger profile is it retried like any other failure. After a promotion only an engine
    failure is retried.
    """
    outcome = attempts[-1].outcome
    if _overran_beside_others(attempts):
        return _alone(assignment)
    if is_unconfirmed(attempts):
        return _confirming(attempts[-1], assignment)
    if outcome is Outcome.INFRA:
        failures = sum(a.outcome is Outcome.INFRA for a in attempts)
        return _again(assignment) if failures <= policy.infra_retries else None
    if outcome not in FAILING or _is_promoted(attempts[-1], attempts):
        return None
    if policy.promote and limits_killed(attempts[-1]):
        promoted = promote(assignment, outcome, profiles=profiles, budget=budget)
        if promoted is not None:
            return promoted
    failures = sum(a.outcome in FAILING for a in counted_attempts(attempts))
    return _again(assignment) if failures <= assignment.retries else None


def is_unconfirmed(attempts: Sequence[Attempt]) -> bool:
    """Return whether the last attempt failed in a reused slot or for lack of CPUs, which may not be the test's
    fault.
    """
    failed = bool(attempts) and attempts[-1].outcome in FAILING
    return failed and (attempts[-1].evidence.slot.reused or _overran_beside_others(attempts))


def _overran_beside_others(attempts: Sequence[Attempt]) -> bool:
    last = attempts[-1]
    return last.outcome in FAILING and last.evidence.starved and not last.assignment.exclusive


def _alone(assignment: Assignment) -> Assignment:
    reason = f"{assignment.reason}; alone, because others had the CPUs when it overran"
    return replace(_again(assignment), exclusive=True, reason=reason)


def _confirming(attempt: Attempt, assignment: Assignment) -> Assignment:
    slot = attempt.evidence.slot
    how = (
        f"what failed as test {slot.position} of a reused one"
        if slot.position > 1
        else "what failed in a process forked from a preloaded one"
    )
    return replace(_again(assignment), reason=f"{assignment.reason}; confirming in a fresh container {how}")


def final_result(attempts: Sequence[Attempt], policy: Policy) -> TestResult:
    """Return the result of a test from its attempts, in order; there is at least one.

    A promoted test keeps the outcome for which it was promoted (oom or timeout), whatever the outcome of the
    promoted attempt, unless `policy.promoted_passes` is set and it passed. An interrupted, skipped or infra
    attempt does not undo an earlier failure.
    """
    verb = verb_of(attempts)
    return TestResult(
        attempts=tuple(attempts),
        outcome=_outcome_of(attempts, verb, policy),
        verb=verb,
        flaky=verb is Verb.FLAKY,
    )


_LEAKS = frozenset(
    {
        ViolationKind.FD_LEAK,
        ViolationKind.THREAD_LEAK,
        ViolationKind.PROCESS_LEAK,
        ViolationKind.IPC_LEAK,
        ViolationKind.OBJECT_LEAK,
    }
)


def verb_of(attempts: Sequence[Attempt]) -> Verb:
    """Return the word that is shown in front of the test's line.

    Where several apply, the first of these is taken: FLAKY, OOM (of a child process), LEAK, SLOW.
    """
    final = deciding_attempt(attempts)
    if _is_promoted(final, attempts) and final.outcome in FAILING | {Outcome.PASSED}:
        return Verb.UNDERSIZED if final.outcome is Outcome.PASSED else Verb.RUNAWAY
    if final.outcome is not Outcome.PASSED:
        return _VERBS[final.outcome]
    if any(attempt.outcome in FAILING for attempt in counted_attempts(attempts)):
        return Verb.FLAKY
    kinds = {violation.kind for violation in final.violations}
    if ViolationKind.CHILD_OOM in kinds:
        return Verb.OOM  # the test passed, but the kernel killed one of its processes
    if kinds & _LEAKS:
        return Verb.LEAK
    return Verb.SLOW if ViolationKind.TIME_NEAR in kinds else Verb.PASS


def _outcome_of(attempts: Sequence[Attempt], verb: Verb, policy: Policy) -> Outcome:
    if verb is Verb.UNDERSIZED and policy.promoted_passes:
        return Outcome.PASSED
    if verb in {Verb.UNDERSIZED, Verb.RUNAWAY}:
        own = [a for a in counted_attempts(attempts) if a.outcome in FAILING and not _is_promoted(a, attempts)]
        return own[-1].outcome
    if verb is Verb.FLAKY and policy.flaky_fails:
        return Outcome.FAILED
    return deciding_attempt(attempts).outcome


def _is_promoted(attempt: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Return whether the attempt ran in a larger profile. Retries keep the first attempt's profile, except
    `reuse`.
    """
    profile, first = attempt.assignment.profile, attempts[0].assignment.profile
    return profile is not first and (profile.name != first.name or profile.limits != first.limits)


def _again(assignment: Assignment) -> Assignment:
    """Return the next attempt, in a fresh slot, so that a failure cannot come from an earlier test."""
    return replace(assignment, profile=assignment.profile.fresh(), attempt=assignment.attempt + 1)

"""What an attempt's end means: another attempt, or the final word on its test. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING, Outcome
from orchestrator.model.results import TestResult, Verb, counted_attempts
from orchestrator.model.violations import ViolationKind
from orchestrator.scheduling.promotion import limits_killed, promote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.events import Policy

__all__ = ["FAILING", "follow_up", "is_unconfirmed", "settle", "verb_of"]

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


def follow_up(
    attempts: Sequence[Attempt],
    assignment: Assignment,
    *,
    policy: Policy,
    profiles: Mapping[str, Profile],
    budget: Budget,
) -> Assignment | None:
    """What is tried after the last of `attempts`, which ran `assignment`; None: the test is done.

    A test that overran because others had the CPUs is run once more with nothing of this run beside it.

    A failure in a reused slot is first confirmed in a fresh one, which takes nothing from the retries. All that
    is tried again is tried fresh.

    A test that its limits killed is promoted at once, not retried: the same limits would kill it again. Only
    where there is no next profile up is it retried like any other failure. After a promotion nothing but an
    engine failure is retried.
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
    """The last attempt failed, and in a slot that had been used before, or for want of CPUs: maybe that is not the
    test's fault.
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


def settle(attempts: Sequence[Attempt], policy: Policy) -> TestResult:
    """The final word on a test whose attempts these are, in order, at least one.

    A promoted test keeps the outcome that it was promoted for (oom or timeout), whatever came of the
    promotion, unless `policy.promoted_passes` and it passed. An attempt that was interrupted, skipped or lost
    to the engine does not undo a failure before it.
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
    """The word in front of the test's line. Of several that would do: FLAKY, then OOM (of a child),
    then LEAK, then SLOW.
    """
    final = _deciding(attempts)
    if _is_promoted(final, attempts) and final.outcome in FAILING | {Outcome.PASSED}:
        return Verb.UNDERSIZED if final.outcome is Outcome.PASSED else Verb.RUNAWAY
    if final.outcome is not Outcome.PASSED:
        return _VERBS[final.outcome]
    if any(attempt.outcome in FAILING for attempt in counted_attempts(attempts)):
        return Verb.FLAKY
    kinds = {violation.kind for violation in final.violations}
    if ViolationKind.CHILD_OOM in kinds:
        return Verb.OOM  # it passed, but not silently: the kernel killed a part of it
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
    return _deciding(attempts).outcome


def _deciding(attempts: Sequence[Attempt]) -> Attempt:
    """The last attempt that passed or failed, else the last: the same as `TestResult.final`."""
    telling = FAILING | {Outcome.PASSED}
    return next((a for a in reversed(counted_attempts(attempts)) if a.outcome in telling), attempts[-1])


def _is_promoted(attempt: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Retries keep the first attempt's profile, but for its reuse; a promotion is what changes it."""
    profile, first = attempt.assignment.profile, attempts[0].assignment.profile
    return profile is not first and (profile.name != first.name or profile.limits != first.limits)


def _again(assignment: Assignment) -> Assignment:
    """In a fresh slot: what a test fails by should be nothing but its own."""
    profile = assignment.profile
    if profile.reuse > 1:
        profile = replace(profile, reuse=1)
    return replace(assignment, profile=profile, attempt=assignment.attempt + 1)

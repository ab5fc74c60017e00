from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.model import Outcome, Verb
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.settle import FAILING, follow_up, settle, verb_of

P, F, T, M, C = Outcome.PASSED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.OOM, Outcome.CRASHED
INFRA, STOPPED, SKIPPED = Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED
BUDGET = Budget(cpus=8.0, memory_bytes=8 * 1024**3, slots=4)
POLICY = Policy()


@pytest.fixture(scope="module")
def attempts(make):
    """Attempts with these outcomes; from index `promoted` on, in a larger profile."""
    small, large = make.profile("standard"), make.profile("slow", memory_mib=1024)

    def build(*outcomes, promoted=99, violations=()):
        return [
            make.attempt(
                outcome,
                make.assignment(profile=large if n >= promoted else small, attempt=n + 1),
                violations=violations,
            )
            for n, outcome in enumerate(outcomes)
        ]

    return build


@pytest.mark.parametrize(
    ("outcomes", "promoted", "verb", "outcome"),
    [
        ([P], 99, Verb.PASS, P),
        ([F], 99, Verb.FAIL, F),
        ([T], 99, Verb.TIMEOUT, T),
        ([M], 99, Verb.OOM, M),
        ([C], 99, Verb.CRASH, C),
        ([INFRA], 99, Verb.INFRA, INFRA),
        ([STOPPED], 99, Verb.STOPPED, STOPPED),
        ([SKIPPED], 99, Verb.SKIP, SKIPPED),
        ([F, P], 99, Verb.FLAKY, P),
        ([F, T], 99, Verb.TIMEOUT, T),
        ([INFRA, P], 99, Verb.PASS, P),
        ([INFRA, INFRA], 99, Verb.INFRA, INFRA),
        ([F, INFRA, P], 99, Verb.FLAKY, P),
        ([F, INFRA], 99, Verb.FAIL, F),
        ([F, STOPPED], 99, Verb.FAIL, F),
        ([F, SKIPPED], 99, Verb.FAIL, F),
        ([INFRA, STOPPED], 99, Verb.STOPPED, STOPPED),
        ([M, P], 1, Verb.UNDERSIZED, M),
        ([T, P], 1, Verb.UNDERSIZED, T),
        ([F, M, P], 2, Verb.UNDERSIZED, M),
        ([M, M], 1, Verb.RUNAWAY, M),
        ([T, F], 1, Verb.RUNAWAY, T),
        ([M, INFRA, P], 1, Verb.UNDERSIZED, M),
        ([M, INFRA], 1, Verb.OOM, M),
        ([T, STOPPED], 1, Verb.TIMEOUT, T),
        ([M, SKIPPED], 1, Verb.OOM, M),
    ],
)
def test_what_attempts_add_up_to(attempts, outcomes, promoted, verb, outcome):
    tried = attempts(*outcomes, promoted=promoted)
    result = settle(tried, POLICY)
    assert (result.verb, result.outcome, result.flaky) == (verb, outcome, verb is Verb.FLAKY)
    assert result.attempts == tuple(tried)


@pytest.mark.parametrize(
    ("violations", "verb"),
    [
        (["time-near"], Verb.SLOW),
        (["process-leak"], Verb.LEAK),
        (["object-leak"], Verb.LEAK),
        (["time-near", "process-leak"], Verb.LEAK),
        (["memory-near", "output-flood"], Verb.PASS),
    ],
)
def test_a_pass_names_its_violation(attempts, violations, verb):
    assert verb_of(attempts(P, violations=violations)) is verb
    assert verb_of(attempts(F, P, violations=violations)) is Verb.FLAKY
    assert verb_of(attempts(F, violations=violations)) is Verb.FAIL


def test_policy_turns_flaky_and_undersized_around(attempts):
    assert settle(attempts(F, P), Policy(flaky_fails=True)).outcome is F
    assert settle(attempts(T, P), Policy(flaky_fails=True)).outcome is F
    assert settle(attempts(M, P, promoted=1), Policy(promoted_passes=True)).outcome is P
    assert settle(attempts(M, F, promoted=1), Policy(promoted_passes=True)).outcome is M


@given(st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=6), st.integers(1, 6))
def test_a_failure_is_never_silent(attempts, outcomes, promoted):
    """Whatever the attempts: PASS or SKIP only where nothing failed; and the result's own idea of the
    deciding attempt (`final`) is the one that the verb was taken from.
    """
    assume(promoted >= len(outcomes) or outcomes[promoted - 1] in {M, T})
    tried = attempts(*outcomes, promoted=promoted)
    result = settle(tried, POLICY)
    if any(outcome in FAILING for outcome in outcomes):
        assert result.verb not in {Verb.PASS, Verb.SLOW, Verb.LEAK, Verb.SKIP, Verb.INFRA, Verb.STOPPED}
        assert result.outcome in FAILING or result.flaky
    if result.verb in {Verb.PASS, Verb.FAIL, Verb.OOM, Verb.TIMEOUT, Verb.CRASH}:
        assert result.final.outcome is result.outcome


def follow(make, outcomes, *, retries=0, policy=POLICY, profiles=None, throttled_seconds=None):
    """Plays a test whose attempts end so; what was tried, as (attempt, profile)."""
    assignment = make.assignment(retries=retries)
    profiles = profiles if profiles is not None else {"slow": make.profile("slow", memory_mib=1024, cpus=2.0)}
    tried = []
    for outcome in outcomes:
        tried.append(make.attempt(outcome, assignment, throttled_seconds=throttled_seconds))
        following = follow_up(tried, assignment, policy=policy, profiles=profiles, budget=BUDGET)
        if following is None:
            break
        assignment = following
    return [(a.assignment.attempt, a.assignment.profile.name) for a in tried], following


def own(*numbers):
    return [(number, "standard") for number in numbers]


@pytest.mark.parametrize("outcome", [F, C, T])
def test_a_failure_is_retried_as_often_as_asked(make, outcome):
    assert follow(make, [outcome] * 9) == (own(1), None)
    assert follow(make, [outcome] * 9, retries=2) == (own(1, 2, 3), None)
    assert follow(make, [outcome, P, F], retries=2) == (own(1, 2), None)


@pytest.mark.parametrize("outcome", [P, SKIPPED, STOPPED])
def test_what_is_no_failure_is_not_retried(make, outcome):
    assert follow(make, [outcome] * 2, retries=3) == (own(1), None)


def test_engine_failures_have_retries_of_their_own(make):
    assert follow(make, [INFRA] * 9, retries=5) == (own(1, 2), None)
    assert follow(make, [INFRA] * 9, policy=Policy(infra_retries=0)) == (own(1), None)
    assert follow(make, [INFRA, F, F, F], retries=1) == (own(1, 2, 3), None)


def test_oom_is_promoted_once_before_any_retry(make):
    assert follow(make, [M, M, M], retries=5) == ([(1, "standard"), (2, "slow")], None)
    assert follow(make, [M, F, F], retries=5) == ([(1, "standard"), (2, "slow")], None)
    assert follow(make, [M, INFRA, P]) == ([(1, "standard"), (2, "slow"), (3, "slow")], None)
    assert follow(make, [F, M, P], retries=1) == ([(1, "standard"), (2, "standard"), (3, "slow")], None)


def test_a_timeout_is_promoted_only_if_throttled(make):
    assert follow(make, [T, P], throttled_seconds=0.3) == ([(1, "standard"), (2, "slow")], None)
    assert follow(make, [T, P], throttled_seconds=0.2) == (own(1), None)


def test_without_a_larger_profile_or_a_promotion_oom_is_an_ordinary_failure(make):
    assert follow(make, [M, M, M], retries=1, profiles={}) == (own(1, 2), None)
    assert follow(make, [M, M, M], retries=1, policy=Policy(promote=False)) == (own(1, 2), None)


def test_a_retry_is_the_same_assignment_but_for_its_number(make):
    assignment = make.assignment(retries=1, group="db")
    tried = [make.attempt(F, assignment)]
    following = follow_up(tried, assignment, policy=POLICY, profiles={}, budget=BUDGET)
    assert following == replace(assignment, attempt=2)

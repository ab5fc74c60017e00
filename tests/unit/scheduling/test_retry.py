from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.model.evidence import Launch, SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import Verb
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.events import Policy
from orchestrator.scheduling.retry import FAILING, final_result, is_unconfirmed, next_attempt, verb_of

P, F, T, M, C = Outcome.PASSED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.OOM, Outcome.CRASHED
INFRA, STOPPED, SKIPPED = Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED
BUDGET = Budget(cpus=8.0, memory_bytes=8 * 1024**3, slots=4)
POLICY = Policy()


@pytest.fixture(scope="module")
def attempts(make):
    """Return a function that makes attempts with the given outcomes; from index `promoted` on, in a larger
    profile.
    """
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
    result = final_result(tried, POLICY)
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


def test_policy_can_fail_flaky_tests_and_pass_undersized_ones(attempts):
    assert final_result(attempts(F, P), Policy(flaky_fails=True)).outcome is F
    assert final_result(attempts(T, P), Policy(flaky_fails=True)).outcome is F
    assert final_result(attempts(M, P, promoted=1), Policy(promoted_passes=True)).outcome is P
    assert final_result(attempts(M, F, promoted=1), Policy(promoted_passes=True)).outcome is M


@given(st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=6), st.integers(1, 6))
def test_a_failure_is_never_silent(attempts, outcomes, promoted):
    """The result is PASS or SKIP only if nothing failed, and `final` is the attempt that the verb was
    taken from.
    """
    assume(promoted >= len(outcomes) or outcomes[promoted - 1] in {M, T})
    tried = attempts(*outcomes, promoted=promoted)
    result = final_result(tried, POLICY)
    if any(outcome in FAILING for outcome in outcomes):
        assert result.verb not in {Verb.PASS, Verb.SLOW, Verb.LEAK, Verb.SKIP, Verb.INFRA, Verb.STOPPED}
        assert result.outcome in FAILING or result.flaky
    if result.verb in {Verb.PASS, Verb.FAIL, Verb.OOM, Verb.TIMEOUT, Verb.CRASH}:
        assert result.final.outcome is result.outcome


def follow(make, outcomes, *, retries=0, policy=POLICY, profiles=None, throttled_seconds=None):
    """Play a test with these outcomes; return what was run as (attempt, profile)."""
    assignment = make.assignment(retries=retries)
    profiles = profiles if profiles is not None else {"slow": make.profile("slow", memory_mib=1024, cpus=2.0)}
    tried = []
    for outcome in outcomes:
        tried.append(make.attempt(outcome, assignment, throttled_seconds=throttled_seconds))
        following = next_attempt(tried, assignment, policy=policy, profiles=profiles, budget=BUDGET)
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
    following = next_attempt(tried, assignment, policy=POLICY, profiles={}, budget=BUDGET)
    assert following == replace(assignment, attempt=2)


# ---------------------------------------------------------------- confirmation of failures in reused slots


def in_slot(make, outcome, assignment, *, position=1, launch=Launch.PROCESS, **other):
    attempt = make.attempt(outcome, assignment, **other)
    return replace(attempt, evidence=replace(attempt.evidence, slot=SlotUse(position=position, launch=launch)))


def play(make, outcomes, *, retries=0, position=5, launch=Launch.PROCESS, profiles=None, throttled_seconds=None):
    """Play a test as the scheduler does: the first attempt in a reused slot, the following ones as assigned."""
    assignment = make.assignment(retries=retries, profile=make.profile("fast", reuse=100))
    tried = []
    for outcome in outcomes:
        assert assignment is not None, "no further attempt was asked for"
        used = {"position": position, "launch": launch} if assignment.profile.reuse > 1 else {}
        tried.append(in_slot(make, outcome, assignment, throttled_seconds=throttled_seconds, **used))
        assignment = next_attempt(tried, assignment, policy=POLICY, profiles=profiles or {}, budget=BUDGET)
    return final_result(tried, POLICY), assignment


@pytest.mark.parametrize(
    ("outcomes", "retries", "verb", "deciding"),
    [
        ([F, P], 0, Verb.PASS, 1),
        ([C, P], 2, Verb.PASS, 1),
        ([F, F], 0, Verb.FAIL, 1),
        ([T, F], 0, Verb.FAIL, 1),
        ([F, F, P], 1, Verb.FLAKY, 2),
        ([F, F, F], 1, Verb.FAIL, 2),
        ([F, INFRA, P], 0, Verb.PASS, 2),
        ([F, INFRA, INFRA], 0, Verb.INFRA, 2),
        ([F, SKIPPED], 0, Verb.SKIP, 1),
        ([INFRA, F, F], 1, Verb.FAIL, 2),
    ],
)
def test_a_failure_in_a_reused_slot_counts_only_if_confirmed_in_a_fresh_one(
    make, outcomes, retries, verb, deciding
):
    result, following = play(make, outcomes, retries=retries)
    assert following is None
    assert result.verb is verb
    assert result.final is result.attempts[deciding]
    assert result.flaky is (verb is Verb.FLAKY)
    assert all(a.assignment.profile.reuse == 1 for a in result.attempts[1:])


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({"position": 17}, "rule; confirming in a fresh container what failed as test 17 of a reused one"),
        ({"position": 1, "launch": Launch.FORKED}, "what failed in a process forked from a preloaded one"),
    ],
)
def test_the_confirmation_says_why_it_is_run(make, use, words):
    _, following = play(make, [F], **use)
    assert following.attempt == 2
    assert words in following.reason
    assert following.profile == make.profile("fast", reuse=1)


def test_the_first_test_of_a_slot_needs_no_confirmation(make):
    result, following = play(make, [F], position=1)
    assert (result.verb, following) == (Verb.FAIL, None)


def test_what_the_limits_killed_is_confirmed_and_only_then_promoted(make):
    larger = {"slow": make.profile("slow", memory_mib=2048)}
    assert play(make, [M], profiles=larger)[1].profile.name == "fast"
    assert play(make, [M, M], profiles=larger)[1].profile.name == "slow"
    assert play(make, [M, M, P], profiles=larger)[0].verb is Verb.UNDERSIZED
    assert play(make, [M, M, M], profiles=larger)[0].verb is Verb.RUNAWAY
    assert play(make, [F, M, P], profiles=larger)[0].outcome is M
    confirmed = play(make, [M, P], profiles=larger)
    assert (confirmed[0].verb, confirmed[1]) == (Verb.PASS, None)


@given(st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=6), st.integers(0, 3))
def test_reuse_never_costs_a_false_failure(make, outcomes, retries):
    """The result is the same as that of the later attempts alone: the failure in the reused slot neither adds nor
    hides anything.
    """
    assignment = make.assignment(retries=retries, profile=make.profile("fast", reuse=100))
    first = in_slot(make, F, assignment, position=3)
    following = next_attempt([first], assignment, policy=POLICY, profiles={}, budget=BUDGET)
    later = [make.attempt(outcome, replace(following, attempt=n)) for n, outcome in enumerate(outcomes, 2)]
    reused, alone = final_result([first, *later], POLICY), final_result(later, POLICY)
    assert (reused.verb, reused.outcome, reused.flaky) == (alone.verb, alone.outcome, alone.flaky)
    assert reused.final is alone.final
    assert reused.overruled is first
    assert alone.overruled is None


def starving(make, attempt_outcome, assignment, *, starved, **use):
    tried = make.attempt(attempt_outcome, assignment)
    return replace(tried, evidence=replace(tried.evidence, starved=starved, slot=SlotUse(**use)))


def play_starved(make, *tries, retries=0, **use):
    """Play a test with attempts of (outcome, whether it was starved)."""
    following, tried = make.assignment(retries=retries, profile=make.profile("fast", reuse=100)), []
    for outcome, starved in tries:
        assert following is not None
        use = use if following.attempt == 1 else {}
        tried.append(starving(make, outcome, following, starved=starved, **use))
        following = next_attempt(tried, following, policy=POLICY, profiles={}, budget=BUDGET)
    return final_result(tried, POLICY), following


@pytest.mark.parametrize("use", [{}, {"position": 7}])
def test_a_test_that_overran_for_want_of_cpus_runs_once_more_alone(make, use):
    """CASES A11: the test is not flaky if it passes then; the first attempt is shown as overruled."""
    _, following = play_starved(make, (T, True), **use)
    assert following.exclusive
    assert following.attempt == 2
    assert following.profile.reuse == 1
    assert "alone, because others had the CPUs" in following.reason
    result, following = play_starved(make, (T, True), (P, False), **use)
    assert (result.verb, result.outcome, result.flaky, following) == (Verb.PASS, P, False, None)
    assert result.overruled is result.attempts[0]


def test_a_test_that_overruns_alone_too_is_a_timeout_without_a_third_run(make):
    for starved in (True, False):
        result, following = play_starved(make, (T, True), (T, starved))
        assert (result.verb, result.outcome, following) == (Verb.TIMEOUT, T, None)


def test_a_run_alone_takes_nothing_from_the_retries(make):
    result, following = play_starved(make, (T, True), (F, False), (P, False), retries=1)
    assert (result.verb, following) == (Verb.FLAKY, None)
    assert play_starved(make, (T, True), (F, False), (F, False), retries=1)[1] is None


def test_a_timeout_without_starvation_is_not_repeated(make):
    assert play_starved(make, (T, False))[1] is None


def test_while_a_run_drains_the_run_alone_is_still_made(make):
    starved = starving(make, T, make.assignment(), starved=True)
    alone = starving(make, T, make.assignment(exclusive=True), starved=True)
    assert is_unconfirmed([starved])
    assert not is_unconfirmed([starved, alone])

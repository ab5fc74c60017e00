import pytest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Network
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.promotion import limits_killed, next_profile, promote

MIB = 1024**2
BUDGET = Budget(cpus=8.0, memory_bytes=8192 * MIB, slots=4)


@pytest.fixture(scope="module")
def profiles(make):
    return {
        p.name: p
        for p in (
            make.profile("intensive", cpus=4.0, memory_mib=4096, timeout_seconds=300, network=Network.BRIDGE),
            make.profile("fast", cpus=1.0, memory_mib=128, timeout_seconds=2),
            make.profile("slow", cpus=2.0, memory_mib=1024, timeout_seconds=60),
            make.profile("standard", cpus=2.0, memory_mib=512, timeout_seconds=10),
        )
    }


@pytest.mark.parametrize(
    ("outcome", "throttled_seconds", "test_seconds", "expected"),
    [
        (Outcome.OOM, None, 1.0, True),
        (Outcome.TIMEOUT, 2.5, 10.0, True),
        (Outcome.TIMEOUT, 2.4, 10.0, False),
        (Outcome.TIMEOUT, None, 10.0, False),
        (Outcome.TIMEOUT, 1.0, 0.0, False),
        (Outcome.FAILED, 9.0, 10.0, False),
        (Outcome.CRASHED, 9.0, 10.0, False),
    ],
)
def test_limits_are_blamed_for_oom_and_for_a_throttled_timeout(
    make, outcome, throttled_seconds, test_seconds, expected
):
    attempt = make.attempt(outcome, throttled_seconds=throttled_seconds, test_seconds=test_seconds)
    assert limits_killed(attempt) is expected


@pytest.mark.parametrize("outcome", [Outcome.OOM, Outcome.TIMEOUT])
@pytest.mark.parametrize(
    ("name", "up"), [("fast", "standard"), ("standard", "slow"), ("slow", "intensive"), ("intensive", None)]
)
def test_the_shipped_profiles_are_a_ladder(profiles, name, up, outcome):
    found = next_profile(profiles, profiles[name], outcome=outcome)
    assert (found and found.name) == up


def test_the_next_one_has_more_of_what_was_short(make):
    small = make.profile("small", memory_mib=100, timeout_seconds=5)
    patient = make.profile("patient", memory_mib=100, timeout_seconds=50)
    roomy = make.profile("roomy", memory_mib=200, timeout_seconds=5)
    profiles = {p.name: p for p in (small, patient, roomy)}
    assert next_profile(profiles, small, outcome=Outcome.OOM) is roomy
    assert next_profile(profiles, small, outcome=Outcome.TIMEOUT) is patient
    assert next_profile(profiles, roomy, outcome=Outcome.TIMEOUT) is None


def test_a_promoted_test_gets_limits_and_nothing_else(make, profiles):
    own = make.assignment(
        profile=make.profile("slow", cpus=2.0, memory_mib=1024, timeout_seconds=600, reuse=50),
        history=make.history(1.0),
        retries=2,
    )
    promoted = promote(own, Outcome.OOM, profiles=profiles, budget=BUDGET)
    assert promoted.profile.name == "intensive"
    assert promoted.profile.limits.memory_bytes == 4096 * MIB
    assert promoted.profile.limits.cpus == 4.0
    assert promoted.profile.limits.timeout_seconds == 600, "a rule had given it more than the next profile has"
    assert promoted.profile.network is Network.NONE
    assert promoted.profile.reuse == 1
    assert promoted.attempt == 2
    assert promoted.history is None
    assert promoted.reason == "promoted from slow after oom"
    assert promoted.clamped == ()


def test_promotion_stops_at_the_budget(make, profiles):
    slow = make.assignment(profile=profiles["slow"])
    tight = Budget(cpus=2.0, memory_bytes=2048 * MIB, slots=1)
    promoted = promote(slow, Outcome.OOM, profiles=profiles, budget=tight)
    assert promoted.profile.limits.memory_bytes == 2048 * MIB
    assert promoted.profile.limits.cpus == 2.0
    assert promoted.clamped == ("profile intensive: memory 4 GiB -> 2 GiB, cpus 4 -> 2: this host grants no more",)
    full = Budget(cpus=2.0, memory_bytes=1024 * MIB, slots=1)
    assert promote(slow, Outcome.OOM, profiles=profiles, budget=full) is None

from dataclasses import replace

import pytest

from orchestrator.model.profiles import Network
from orchestrator.scheduling.fresh_containers import all_fresh, guard_secrets, reason_for_fresh


@pytest.fixture
def auto(make):
    return make.profile(reuse=1000, auto_reuse=True)


@pytest.mark.parametrize(
    ("changes", "exclusive", "unclean", "reason"),
    [
        ({}, False, None, None),
        ({}, True, None, "it is exclusive"),
        ({"network": Network.BRIDGE}, False, None, "it has a network"),
        ({"capabilities": ("SYS_PTRACE",)}, False, None, "it has capabilities"),
        ({}, False, "left 1 process running", "in an earlier run it left 1 process running"),
    ],
)
def test_what_gets_a_fresh_container_under_auto(make, auto, changes, exclusive, unclean, reason):
    history = replace(make.history(1.0), unclean=unclean)
    profile = replace(auto, **changes)
    assert reason_for_fresh(profile, exclusive=exclusive, history=history) == reason
    by_number = replace(profile, auto_reuse=False)
    assert reason_for_fresh(by_number, exclusive=exclusive, history=history) is None


def test_a_test_without_history_is_not_doubted(auto):
    assert reason_for_fresh(auto, exclusive=False, history=None) is None


def test_all_fresh_changes_what_is_reused_and_says_why(make, auto):
    number = make.profile("fast", reuse=50)
    plan = [make.assignment(str(n), profile=p) for n, p in enumerate((auto, auto, number, make.profile("slow")))]
    everything = all_fresh(plan, "--fresh")
    assert [one.profile.reuse for one in everything] == [1, 1, 1, 1]
    assert everything[0].profile is everything[1].profile
    assert everything[2].reason == f"{plan[2].reason}; a fresh container: --fresh"
    assert everything[3] is plan[3]
    some = all_fresh(plan, "remote", only_auto=True)
    assert [one.profile.reuse for one in some] == [1, 1, 50, 1]


def test_variables_of_the_host_are_kept_from_other_suites(make, auto):
    def of(suite, profile):
        one = make.assignment(f"{suite}.py", profile=profile)
        return replace(one, test=replace(one.test, suite=suite))

    number = make.profile("fast", reuse=50)
    other = make.profile("other", reuse=1000, auto_reuse=True)
    plan = [of("secret", auto), of("plain", auto), of("secret", other), of("secret", number), of("plain", number)]
    guarded = guard_secrets(plan, {"secret"})
    assert [one.profile.reuse for one in guarded] == [1, 1000, 1000, 50, 50]
    assert guarded[0].reason.endswith("a fresh container: its suite passes variables of the host")
    assert guard_secrets(guarded, {"secret"}) == guarded
    assert guard_secrets(plan, ()) == tuple(plan)

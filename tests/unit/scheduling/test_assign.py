from dataclasses import replace

import pytest

from orchestrator.errors import UsageError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile, Rule
from orchestrator.model.runs import HostInfo
from orchestrator.model.tests import Command, History, Test, TestId
from orchestrator.scheduling.assign import assign

MIB, GIB = 1 << 20, 1 << 30
HOST = HostInfo(id="h", cpus=2.0, memory_bytes=2 * GIB, kernel="6", python="3.11")


def a_profile(name, *, cpus=1.0, memory=512 * MIB, timeout=10.0, tmpfs=100 * MIB):
    limits = Limits(
        cpus=cpus,
        memory_bytes=memory,
        timeout_seconds=timeout,
        tmpfs_bytes=tmpfs,
        tmpfs_inodes=1000,
        outputs_bytes=64 * MIB,
        shm_bytes=64 * MIB,
        pids=128,
        nofile=1024,
        log_bytes=MIB,
    )
    return Profile(name=name, limits=limits, network=Network.NONE, image="isolation")


PROFILES = {
    profile.name: profile
    for profile in (
        a_profile("fast", memory=128 * MIB),
        a_profile("standard"),
        a_profile("slow", memory=GIB),
        a_profile("intensive", cpus=4.0, memory=4 * GIB, tmpfs=3 * GIB),
    )
}


def a_test(path="test/unit/test_a.py", case=None, **fields):
    return Test(id=TestId(path=path, case=case), suite="unit", command=Command(argv=("true",)), **fields)


def plan(*tests, **changes):
    settings = {
        "rules": (),
        "profiles": PROFILES,
        "default": "standard",
        "run_id": "r",
        "forced": None,
        "history": {},
        "host": HOST,
        "retries": 0,
        "repeat": 1,
        "strict_limits": False,
    }
    return assign(tests, **(settings | changes))


def test_precedence_forced_rule_comment_suite_default():
    rule = Rule(profile="fast", match="test/unit/**", place="profiles.yaml:12")
    test = a_test(profile_hint="slow", suite_profile="intensive")
    steps = [
        plan(test, forced="standard", rules=(rule,)),
        plan(test, rules=(rule,)),
        plan(test),
        plan(a_test(suite_profile="slow")),
        plan(a_test()),
    ]
    assert [(step[0].profile.name, step[0].reason) for step in steps] == [
        ("standard", "--profile standard"),
        ("fast", "rule profiles.yaml:12: match test/unit/**"),
        ("slow", "comment `orch: profile=slow` in test/unit/test_a.py"),
        ("slow", "suite unit"),
        ("standard", "default profile"),
    ]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(match="test/unit/**", marker="db", suite="unit"), True),
        (Rule(match="test/unit/**", marker="net"), False),
        (Rule(match="test/integration/**", marker="db"), False),
        (Rule(suite="other"), False),
        (Rule(), True),
        (Rule(match="test/**::TestX::*"), True),
        (Rule(match="test/**::TestZ::*"), False),
    ],
)
def test_all_conditions_of_a_rule_must_hold(rule, expected):
    test = a_test(case="TestX::test_y", markers=frozenset({"db"}))
    (result,) = plan(test, rules=(Rule(profile="slow", match=rule.match, marker=rule.marker, suite=rule.suite),))
    assert (result.profile.name == "slow") is expected


def test_the_first_matching_rule_wins_alone():
    rules = (Rule(marker="x", profile="slow"), Rule(retries=3), Rule(profile="fast", retries=5))
    (result,) = plan(a_test(), rules=rules)
    assert (result.profile.name, result.retries) == ("standard", 3)


def test_a_rules_overrides_replace_the_profiles_limits():
    rule = Rule(
        profile="slow",
        memory_bytes=256 * MIB,
        cpus=0.5,
        timeout_seconds=99,
        exclusive=True,
        group="db",
        retries=2,
    )
    (result,) = plan(a_test(), rules=(rule,), retries=1)
    limits = result.profile.limits
    assert (limits.memory_bytes, limits.cpus, limits.timeout_seconds) == (256 * MIB, 0.5, 99)
    assert (result.exclusive, result.group, result.retries) == (True, "db", 2)
    assert (limits.tmpfs_bytes, result.clamped) == (100 * MIB, ())


def test_a_rule_without_a_profile_still_gives_its_limits_and_says_so():
    rule = Rule(match="test/**", memory_bytes=GIB, place="p.yaml:3")
    (result,) = plan(a_test(), rules=(rule,))
    assert result.profile.limits.memory_bytes == GIB
    assert result.reason == "default profile; limits by rule p.yaml:3: match test/**"


def test_a_forced_profile_is_taken_as_it_is():
    (result,) = plan(a_test(), forced="fast", rules=(Rule(profile="slow", memory_bytes=GIB, group="db"),))
    assert result.profile == PROFILES["fast"]
    assert result.group == "db"


@pytest.mark.parametrize(
    ("changes", "test", "why"),
    [
        ({"forced": "fats"}, a_test(), "--profile fats: unknown profile 'fats': did you mean 'fast'"),
        ({"default": "xyz"}, a_test(), "known are fast, intensive, slow, standard"),
        ({}, a_test(profile_hint="slwo"), "test/unit/test_a.py: unknown profile 'slwo': did you mean 'slow'"),
        ({}, a_test(suite_profile="quick"), "suite unit"),
        ({"rules": (Rule(profile="no", match="none", place="p.yaml:7"),)}, a_test(), "rule p.yaml:7"),
    ],
)
def test_an_unknown_profile_is_refused_with_the_nearest(changes, test, why):
    with pytest.raises(UsageError) as caught:
        plan(test, **changes)
    assert why in caught.value.message


def test_a_profile_larger_than_the_host_is_lowered_with_notices():
    (result,) = plan(a_test(), forced="intensive")
    limits = result.profile.limits
    assert (limits.cpus, limits.memory_bytes, limits.tmpfs_bytes) == (2.0, 2 * GIB, 2 * GIB)
    assert result.clamped == (
        "cpus 4 -> 2: this host grants 2",
        "memory 4 GiB -> 2 GiB: this host grants 2 GiB",
        "tmpfs 3 GiB -> 2 GiB: it counts as memory, of which there is 2 GiB",
    )
    assert PROFILES["intensive"].limits.cpus == 4.0


def test_strict_limits_refuse_what_the_host_cannot_give():
    with pytest.raises(UsageError, match=r"'intensive' \(--profile intensive\) is larger .* cpus 4 -> 2"):
        plan(a_test(), forced="intensive", strict_limits=True)
    (result,) = plan(a_test(), forced="slow", strict_limits=True)
    assert result.clamped == ()


def test_memory_lowered_by_a_rule_lowers_what_lives_in_it():
    (result,) = plan(a_test(), rules=(Rule(memory_bytes=64 * MIB + 512 * 1024),), strict_limits=True)
    limits = result.profile.limits
    assert limits.tmpfs_bytes == limits.memory_bytes
    assert result.clamped == ("tmpfs 100 MiB -> 64.5 MiB: it counts as memory, of which there is 64.5 MiB",)


def test_repeat_numbers_each_tests_repetitions_and_history_comes_along():
    history = History(
        attempts=3,
        duration_seconds_p95=1.0,
        memory_bytes_p95=None,
        cpus_p95=None,
        last_outcome=Outcome.PASSED,
    )
    first, second = a_test("a"), a_test("b")
    assignments = plan(first, second, repeat=3, history={second.id: history}, run_id="run-1", retries=1)
    assert [(item.test.id.path, item.repetition) for item in assignments] == [
        (path, number) for path in "ab" for number in (1, 2, 3)
    ]
    assert [item.history for item in assignments] == [None] * 3 + [history] * 3
    assert {(item.run_id, item.attempt, item.retries) for item in assignments} == {("run-1", 1, 1)}
    with pytest.raises(UsageError, match="--repeat 0"):
        plan(first, repeat=0)


def test_under_auto_a_doubted_test_has_a_fresh_container_and_all_else_the_same():
    auto = replace(a_profile("standard"), reuse=1000, auto_reuse=True)
    history = History(
        attempts=3, duration_seconds_p95=1.0, memory_bytes_p95=None, cpus_p95=None, last_outcome=Outcome.PASSED
    )
    names = ("test/a.py", "test/left.py", "test/b.py", "test/left2.py")
    known = {
        TestId(path=n): replace(history, unclean="left 1 process running" if "left" in n else None) for n in names
    }
    found = plan(*map(a_test, names), profiles={"standard": auto}, history=known)
    assert [one.profile.reuse for one in found] == [1000, 1, 1000, 1]
    assert found[1].profile == replace(auto, reuse=1)
    assert found[1].profile is found[3].profile
    why = "default profile; a fresh container: in an earlier run it left 1 process running"
    assert (found[0].reason, found[1].reason) == ("default profile", why)
    (alone,) = plan(a_test(), profiles={"standard": auto}, rules=(Rule(exclusive=True),))
    assert (alone.profile.reuse, alone.exclusive) == (1, True)

from dataclasses import replace

from orchestrator.model.suites import Preload
from orchestrator.scheduling.wait_queue import expected_seconds, longest_first


def names(plan):
    return [a.test.id.path.removesuffix(".py") for a in plan]


def test_longest_first_unknown_by_timeout_then_bigger_then_as_given(make):
    slow = make.profile("slow", timeout_seconds=60.0)
    big = make.profile("big", memory_mib=4096)
    plan = [
        make.assignment("short", history=make.history(0.1)),
        make.assignment("unknown_1"),
        make.assignment("unknown_2"),
        make.assignment("unknown_big", profile=big),
        make.assignment("known_long", history=make.history(50.0), profile=slow),
        make.assignment("unknown_slow", profile=slow),
    ]
    assert names(longest_first(plan)) == [
        "unknown_slow",
        "known_long",
        "unknown_big",
        "unknown_1",
        "unknown_2",
        "short",
    ]


def forked(make, name, seconds=None):
    one = make.assignment(name, profile=make.profile(reuse=100), history=seconds and make.history(seconds))
    return replace(
        one, test=replace(one.test, command=replace(one.test.command, argv=("python3",), preload=Preload.START))
    )


def test_brief_tests_that_are_forked_come_folder_by_folder_long_ones_by_length(make):
    """Tests of ten folders in turn would make a slot's four preloaded runners evict each other (164 instead of 33
    ms).
    """
    plan = [
        forked(make, "b/2", 0.02),
        forked(make, "a/1", 0.03),
        forked(make, "b/long", 9.0),
        forked(make, "b/1", 0.04),
        forked(make, "a/long", 8.0),
        forked(make, "a/2", 0.01),
        forked(make, "b/3", 0.05),
        make.assignment("shell", history=make.history(0.02)),
    ]
    assert names(longest_first(plan)) == ["b/long", "a/long", "b/3", "b/1", "b/2", "a/1", "a/2", "shell"]


def test_brief_depends_on_the_duration_of_all_tests(make):
    plan = [forked(make, f"{folder}/{n}", 0.4 + n / 100) for n in range(60) for folder in "abcde"]
    assert [name[0] for name in names(longest_first(plan))] == [folder for folder in "abcde" for _ in range(60)]
    assert names(longest_first(plan[:10]))[:2] == ["a/1", "b/1"], "of few tests the order of length decides"


def test_tests_without_history_that_are_forked_come_folder_by_folder(make):
    plan = [forked(make, name) for name in ("a/1", "b/1", "a/2", "b/2")]
    assert names(longest_first(plan)) == ["a/1", "a/2", "b/1", "b/2"]


def test_exclusive_tests_come_last_longest_first(make):
    plan = [
        make.assignment("alone_short", exclusive=True, history=make.history(1.0)),
        make.assignment("alone_long", exclusive=True, history=make.history(9.0)),
        make.assignment("shared", history=make.history(0.1)),
    ]
    assert names(longest_first(plan)) == ["shared", "alone_long", "alone_short"]


def test_a_test_is_not_expected_to_outlive_its_timeout(make):
    assert expected_seconds(make.assignment(history=make.history(99.0))) == 10.0

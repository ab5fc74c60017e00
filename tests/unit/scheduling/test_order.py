from orchestrator.scheduling.order import expected_seconds, order


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
    assert names(order(plan)) == [
        "unknown_slow",
        "known_long",
        "unknown_big",
        "unknown_1",
        "unknown_2",
        "short",
    ]


def test_exclusive_tests_come_last_longest_first(make):
    plan = [
        make.assignment("alone_short", exclusive=True, history=make.history(1.0)),
        make.assignment("alone_long", exclusive=True, history=make.history(9.0)),
        make.assignment("shared", history=make.history(0.1)),
    ]
    assert names(order(plan)) == ["shared", "alone_long", "alone_short"]


def test_a_test_is_not_expected_to_outlive_its_timeout(make):
    assert expected_seconds(make.assignment(history=make.history(99.0))) == 10.0

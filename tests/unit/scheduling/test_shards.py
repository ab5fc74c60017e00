import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.scheduling.shards import (
    Shard,
    ShardBy,
    imbalance,
    parse_shard,
    partition_digest,
    select,
    shard_of_environment,
)


@given(
    seconds=st.lists(st.none() | st.floats(0, 10), max_size=40),
    count=st.integers(1, 7),
    by=st.sampled_from(list(ShardBy)),
    random=st.randoms(use_true_random=False),
)
def test_each_test_is_in_exactly_one_shard_whatever_the_plans_order(make, seconds, count, by, random):
    plan = [
        make.assignment(f"t{n}", history=None if s is None else make.history(s)) for n, s in enumerate(seconds)
    ]
    parts = [select(plan, Shard(number=n, count=count), by) for n in range(1, count + 1)]
    assert sorted(str(a.test.id) for part in parts for a in part) == sorted(str(a.test.id) for a in plan)
    for part in parts:
        assert list(part) == [a for a in plan if a in part], "a shard keeps the plan's order"
    shuffled = list(plan)
    random.shuffle(shuffled)
    again = [select(shuffled, Shard(number=n, count=count), by) for n in range(1, count + 1)]
    assert [{str(a.test.id) for a in part} for part in again] == [{str(a.test.id) for a in part} for part in parts]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.integers(1, 7))
def test_shards_by_time_are_balanced_as_well_as_the_bound_of_the_method_says(make, seconds, count):
    plan = [make.assignment(f"t{n}", history=make.history(s)) for n, s in enumerate(seconds)]
    parts = [select(plan, Shard(number=n, count=count), ShardBy.TIME) for n in range(1, count + 1)]
    loads = [sum(a.history.duration_seconds_p95 for a in part) for part in parts]
    assert max(loads) <= sum(seconds) / count + max(seconds) * (1 - 1 / count) + 1e-9


def test_by_memory_the_large_ones_are_spread(make):
    plan = [
        make.assignment(f"t{n}", history=make.history(1.0, memory_mib=mib))
        for n, mib in enumerate([400, 390, 10, 5])
    ]
    parts = [select(plan, Shard(number=n, count=2), ShardBy.MEMORY) for n in (1, 2)]
    assert [[a.history.memory_bytes_p95 // 1024**2 for a in part] for part in parts] == [[400, 5], [390, 10]]


def test_an_unknown_test_weighs_as_much_as_its_profiles_known_ones(make):
    known = [make.assignment(f"known{n}", history=make.history(1.0)) for n in range(3)]
    unknown = make.assignment("unknown")  # its timeout, 10 s, would fill a shard of its own
    parts = [select([*known, unknown], Shard(number=n, count=2), ShardBy.TIME) for n in (1, 2)]
    assert [len(part) for part in parts] == [2, 2]


def test_by_hash_a_test_stays_where_it_is_when_others_come_and_go(make):
    plan = [make.assignment(f"t{n}") for n in range(200)]
    shard = Shard(number=2, count=3)
    before = {str(a.test.id) for a in select(plan, shard, ShardBy.HASH)}
    after = {str(a.test.id) for a in select(plan[::2], shard, ShardBy.HASH)}
    assert after == before & {str(a.test.id) for a in plan[::2]}
    assert 40 < len(before) < 95, "about a third"


def test_by_hash_is_the_same_on_every_machine_and_python(make):
    plan = [make.assignment(f"t{n}") for n in range(8)]
    parts = [[str(a.test.id) for a in select(plan, Shard(number=n, count=2), ShardBy.HASH)] for n in (1, 2)]
    assert parts == [["t1.py", "t3.py", "t4.py", "t5.py", "t7.py"], ["t0.py", "t2.py", "t6.py"]]


def test_repetitions_of_a_test_are_shared_out_too(make):
    plan = [make.assignment("t", repetition=n) for n in range(1, 5)]
    parts = [select(plan, Shard(number=n, count=2), ShardBy.TIME) for n in (1, 2)]
    assert [len(part) for part in parts] == [2, 2]


def test_parse_shard():
    assert parse_shard(" 2/5 ") == Shard(number=2, count=5)


@pytest.mark.parametrize("text", ["", "2", "2/", "/5", "0/5", "6/5", "1/0", "-1/5", "2/5/7", "a/b", "1.0/2"])
def test_a_wrong_shard_is_refused_with_what_to_write(text):
    with pytest.raises(UsageError) as caught:
        parse_shard(text)
    assert "2/5" in caught.value.remedy


@pytest.mark.parametrize(
    ("environ", "shard"),
    [
        ({}, None),
        ({"CI_NODE_TOTAL": "1"}, None),  # GitLab without `parallel`
        ({"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3"}, (1, 3)),
        ({"CI_NODE_INDEX": "3", "CI_NODE_TOTAL": "3"}, (3, 3)),
        ({"STRATEGY_JOB_INDEX": "0", "STRATEGY_JOB_TOTAL": "4"}, (1, 4)),
        ({"STRATEGY_JOB_INDEX": "3", "STRATEGY_JOB_TOTAL": "4"}, (4, 4)),
        ({"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_PARALLEL_JOB_COUNT": "2"}, (1, 2)),
        ({"BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "2", "CI_NODE_TOTAL": "1"}, (2, 2)),
        ({"STRATEGY_JOB_INDEX": "", "STRATEGY_JOB_TOTAL": ""}, None),
    ],
)
def test_the_ci_systems_numbers_become_a_shard(environ, shard):
    found = shard_of_environment(environ)
    assert found == (None if shard is None else Shard(number=shard[0], count=shard[1]))


@pytest.mark.parametrize(
    "environ",
    [
        {"CI_NODE_TOTAL": "3"},
        {"CI_NODE_INDEX": "1"},
        {"CI_NODE_INDEX": "0", "CI_NODE_TOTAL": "3"},
        {"STRATEGY_JOB_INDEX": "4", "STRATEGY_JOB_TOTAL": "4"},
        {"BUILDKITE_PARALLEL_JOB": "one", "BUILDKITE_PARALLEL_JOB_COUNT": "2"},
        {"CI_NODE_INDEX": "-1", "CI_NODE_TOTAL": "3"},
        {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "three"},
    ],
)
def test_half_a_number_is_refused_for_a_guess_would_lose_tests(environ):
    with pytest.raises(UsageError):
        shard_of_environment(environ)


def test_the_digest_tells_whether_shards_saw_the_same_history(make):
    plan = [make.assignment(f"t{n}", history=make.history(n + 1.0)) for n in range(20)]
    other = [make.assignment(f"t{n}", history=make.history(20.0 - n)) for n in range(20)]
    same = partition_digest(plan, 4, ShardBy.TIME)
    assert partition_digest(plan[::-1], 4, ShardBy.TIME) == same
    assert partition_digest(other, 4, ShardBy.TIME) != same
    assert partition_digest(plan, 5, ShardBy.TIME) != same
    assert partition_digest(plan[1:], 4, ShardBy.TIME) != same
    assert partition_digest(plan, 4, ShardBy.HASH) == partition_digest(other, 4, ShardBy.HASH)


def test_by_time_a_skewed_suite_is_balanced_and_by_hash_it_is_not(make):
    durations = [0.05 * 1.02**n for n in range(400)]  # the longest takes 2,600 times as long as the shortest
    plan = [make.assignment(f"t{n}", history=make.history(s)) for n, s in enumerate(durations)]
    for count in (2, 4, 8):
        assert imbalance(plan, count, ShardBy.TIME) < 1.02
    by_hash = [sum(a.history.duration_seconds_p95 for a in select(plan, Shard(number=n, count=8), ShardBy.HASH))
               for n in range(1, 9)]  # fmt: skip
    assert max(by_hash) * 8 / sum(by_hash) > 1.1


def test_one_test_that_is_longer_than_all_others_cannot_be_shared_out(make):
    plan = [make.assignment("long", history=make.history(9.0)), make.assignment("t", history=make.history(1.0))]
    assert imbalance(plan, 2, ShardBy.TIME) == pytest.approx(1.8)


def test_an_empty_plan_has_no_balance():
    assert imbalance([], 3, ShardBy.TIME) is None

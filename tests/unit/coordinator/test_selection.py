import pytest

from orchestrator.coordinator.selection import find_test_id, shard_wanted, sharded
from orchestrator.errors import NothingFoundError, UsageError
from orchestrator.scheduling.shards import Shard
from tests.support.handmade import make_assignment

GITLAB = {"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3"}


def test_a_matrix_alone_shards_nothing():
    assert shard_wanted(None, GITLAB, pytest.fail) is None


def test_auto_takes_what_the_ci_system_says():
    assert shard_wanted("auto", GITLAB, pytest.fail) == Shard(number=2, count=3)


def test_auto_without_a_ci_system_runs_everything_and_says_so():
    said = []
    assert shard_wanted("auto", {}, said.append) is None
    assert "all tests are run" in said[0]


def test_what_is_written_out_counts_more_than_the_environment():
    assert shard_wanted("1/2", GITLAB, pytest.fail) == Shard(number=1, count=2)
    with pytest.raises(UsageError):
        shard_wanted("auto?", GITLAB, pytest.fail)


def test_each_shard_says_how_large_it_is_and_which_partition():
    plan = [make_assignment("true", path=f"t{n}.py") for n in range(9)]
    said = []
    parts = [sharded(plan, Shard(number=n, count=3), "time", said.append) for n in (1, 2, 3)]
    assert sorted(str(a.test.id) for part in parts for a in part) == sorted(str(a.test.id) for a in plan)
    assert said[0].startswith("shard 1/3 by time: 3 of 9 tests (0 with history), the largest 1.00 of the mean; ")
    assert len({line.partition("; partition ")[2] for line in said}) == 1


def test_a_test_is_found_by_the_end_of_its_id():
    ids, missing = ("test/a.py", "test/b/a.py", "test/xa.py"), NothingFoundError("no such test")
    assert find_test_id(ids, "test/a.py", missing=missing) == "test/a.py"
    assert find_test_id(ids, "b/a.py", missing=missing) == "test/b/a.py"
    assert find_test_id(ids, "xa.py", missing=missing) == "test/xa.py"
    with pytest.raises(UsageError, match=r"'a.py' is the end of several tests: test/a.py, test/b/a.py"):
        find_test_id(ids, "a.py", missing=missing)
    with pytest.raises(NothingFoundError):
        find_test_id(ids, "c.py", missing=missing)

"""`orch self-test`: its table and JSON, and exit code 3 where a check cannot be proven."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.conftest import Orch


def test_all_groups_of_a_profile_are_proven(make_project: Callable[..., Orch]) -> None:
    orch = make_project({".orch/of-a-run": "x"})
    done = orch("self-test", "--offline-base", "--profile", "fast", "--format", "json", seconds=600)
    (found,) = json.loads(done.stdout)["profiles"]
    assert (found["profile"], found["proven"]) == ("fast", True)
    assert {check["group"] for check in found["checks"] if check["proven"]} == set(range(1, 18))
    assert all(check["reason"] for check in found["checks"] if check["proven"] is None)
    left = orch("clean", "--dry-run").stdout
    assert "self-test" not in left


def test_the_table_names_each_group_and_each_check_on_request(make_project: Callable[..., Orch]) -> None:
    orch = make_project({})
    short = orch("self-test", "--offline-base", "--profile", "fast", seconds=600).stdout
    assert "system calls" in short
    assert "io_uring_setup" not in short
    long = orch("self-test", "--offline-base", "--profile", "fast", "-v", seconds=600).stdout
    assert "refused: io_uring_setup: ENOSYS" in long
    assert "CIS 5.26: a health check: deviation" in long


def test_a_profile_that_does_not_exist_is_a_usage_error(make_project: Callable[..., Orch]) -> None:
    assert "fast" in make_project({})("self-test", "--profile", "fasst", expect=2).stderr

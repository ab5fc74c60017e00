"""`reuse: auto`, the default of the profile `standard`, on the real engine: which tests share a container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import Orch, write_files

if TYPE_CHECKING:
    from pathlib import Path

TESTS = {f"tests/test_{name}.py": "def test_sum():\n    assert 1 + 1 == 2\n" for name in "abcd"}
SHELL = {f"test/{name}.test.sh": "echo clean\n" for name in "abcd"}
LEAKS = {"test/leaks.test.sh": "sleep 300 >/dev/null 2>&1 &\n"}


def make(tmp_path: Path, files: dict[str, str]) -> Orch:
    return Orch(project=write_files(tmp_path / "project", files))


def run(orch: Orch, *words: str, expect: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(orch("run", "-j", "1", "--format", "json", *words, expect=expect).stdout)
    assert document["ledger"]["left"] == []
    return document


def slots(document: dict[str, Any]) -> dict[str, list[int]]:
    """Return the positions in their slots of each test's attempts."""
    return {test["id"]: [one["slot"]["position"] for one in test["attempts"]] for test in document["tests"]}


@pytest.mark.parametrize("files", [TESTS, SHELL], ids=["pytest", "shell"])
def test_with_nothing_configured_a_clean_suite_shares_one_container_and_fresh_makes_one_each(
    tmp_path: Path, files: dict[str, str]
) -> None:
    orch = make(tmp_path, files)
    document = run(orch)
    assert sorted(position for (position,) in slots(document).values()) == [1, 2, 3, 4]
    assert (document["ledger"]["created"], document["run"]["fresh"], document["run"]["reused_tests"]) == (
        1,
        False,
        3,
    )
    fresh = run(orch, "--fresh")
    assert set(map(tuple, slots(fresh).values())) == {(1,)}
    assert {test["slot"]["launch"] for test in fresh["tests"]} == {"process"}
    assert (fresh["ledger"]["created"], fresh["run"]["fresh"], fresh["run"]["reused_tests"]) == (4, True, 0)
    assert all(test["reason"].endswith("; a fresh container: --fresh") for test in fresh["tests"])
    shown = orch("run", "-j", "1").stdout
    assert "3 of 4 tests ran in reused slots (orch run --fresh: a container each)" in shown
    assert sum("    reused" in line for line in shown.splitlines()) == 3


def test_after_a_test_that_leaks_the_next_one_gets_a_fresh_slot_and_later_it_has_its_own(tmp_path: Path) -> None:
    orch = make(tmp_path, {**SHELL, **LEAKS})
    first = run(orch)
    leaking = next(test for test in first["tests"] if test["id"] == "test/leaks.test.sh")
    assert leaking["slot"]["unclean"] == "left 1 process running"
    assert first["ledger"]["created"] == (1 if leaking["slot"]["position"] == 5 else 2)
    second = run(orch)
    leaking = next(test for test in second["tests"] if test["id"] == "test/leaks.test.sh")
    assert (leaking["slot"]["position"], second["ledger"]["created"]) == (1, 2)
    assert leaking["reason"].endswith("a fresh container: in an earlier run it left 1 process running")
    assert sorted(position for (position,) in slots(second).values()) == [1, 1, 2, 3, 4]


def test_a_failure_is_confirmed_in_a_fresh_container(tmp_path: Path) -> None:
    document = run(make(tmp_path, {**SHELL, "test/fails.test.sh": "exit 3\n"}), expect=1)
    failed = next(test for test in document["tests"] if test["outcome"] == "failed")
    assert slots(document)[failed["id"]] == [5, 1], "what counts is from a container of its own"
    assert {test["outcome"] for test in document["tests"] if test is not failed} == {"passed"}


def test_what_passes_only_in_a_fresh_container_gets_one_the_next_time(tmp_path: Path) -> None:
    # the numbers of processes go on in a used container: after others, this one fails
    numbered = "[ $$ -lt 90 ] || exit 1\n"
    many = "for n in $(seq 100); do /bin/true; done\n"
    orch = make(tmp_path, {"test/a.test.sh": many, "test/b.test.sh": numbered})
    first = run(orch)
    assert slots(first)["test/b.test.sh"] == [2, 1]
    second = run(orch)
    assert slots(second)["test/b.test.sh"] == [1]
    (reason,) = [test["reason"] for test in second["tests"] if test["id"] == "test/b.test.sh"]
    assert reason.endswith("in an earlier run it failed in a reused container and passed in a fresh one")


def test_exclusive_tests_and_profiles_with_a_network_or_capabilities_are_fresh(tmp_path: Path) -> None:
    rules = """version: 1
profiles:
  net: {inherits: standard, network: bridge}
  able: {inherits: standard, capabilities: [SYS_PTRACE]}
rules:
  - {match: "test/a.test.sh", exclusive: true}
  - {match: "test/b.test.sh", profile: net}
  - {match: "test/c.test.sh", profile: able}
"""
    document = run(make(tmp_path, {**SHELL, "test/e.test.sh": "true\n", "profiles.yaml": rules}))
    why = {test["id"]: test["reason"].partition("a fresh container: ")[2] for test in document["tests"]}
    assert [why[f"test/{name}.test.sh"] for name in "abcde"] == [
        "it is exclusive",
        "it has a network",
        "it has capabilities",
        "",
        "",
    ]
    assert sorted(position for (position,) in slots(document).values()) == [1, 1, 1, 1, 2]


def test_over_attached_streams_nothing_is_reused(tmp_path: Path) -> None:
    project = write_files(tmp_path / "project", SHELL)
    document = run(Orch(project=project, env={"ORCH_STREAMS": "attach"}))
    assert document["ledger"]["created"] == 4
    assert all(test["reason"].endswith("this engine cannot reuse them") for test in document["tests"])

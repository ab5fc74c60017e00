"""examples/quickstart: each way a test can end has its own verb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import CHECKOUT, Orch, objects_of, run_folders

VERBS = {
    "test/ok/test_wordcount.py": {"PASS"},
    "test/ok/wordcount.test.sh": {"PASS"},
    "test/test_failure.py": {"FAIL"},
    "test/failure.test.sh": {"FAIL"},
    "test/test_oom.py": {"OOM", "RUNAWAY"},
    "test/test_timeout.py": {"TIMEOUT"},
    "test/test_crash.py": {"CRASH"},
    "test/test_child_oom.py": {"OOM"},
    "test/test_leftover.py": {"LEAK"},
}
OUTCOMES = {
    "test/ok/test_wordcount.py": "passed",
    "test/ok/wordcount.test.sh": "passed",
    "test/test_failure.py": "failed",
    "test/failure.test.sh": "failed",
    "test/test_oom.py": "oom",
    "test/test_timeout.py": "timeout",
    "test/test_crash.py": "crashed",
    "test/test_child_oom.py": "passed",
    "test/test_leftover.py": "passed",
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Orch, str]:
    """Run the example in a copy, and return its output."""
    place = tmp_path_factory.mktemp("quickstart") / "quickstart"
    shutil.copytree(CHECKOUT / "examples/quickstart", place, ignore=shutil.ignore_patterns(".orch", "__pycache__"))
    orch = Orch(project=place)
    return orch, orch("run", expect=1).stdout


def test_each_end_has_its_verb(ended: tuple[Orch, str]) -> None:
    lines = ended[1].partition("Failures:")[0].splitlines()
    verbs = {test: {line.split()[0] for line in lines if f" {test}" in line} for test in VERBS}
    assert {test: found for test, found in verbs.items() if not found or not found <= VERBS[test]} == {}


def test_outcomes_and_their_evidence(ended: tuple[Orch, str]) -> None:
    document = json.loads((run_folders(ended[0])[-1] / "run.json").read_text())
    tests = {test["id"]: test for test in document["tests"]}
    assert {name: test["outcome"] for name, test in tests.items()} == OUTCOMES
    child = tests["test/test_child_oom.py"]
    assert "child-oom" in {v["kind"] for v in child["violations"]}
    assert child["usage"]["oom_kills"] >= 1
    assert {v["kind"] for v in tests["test/test_leftover.py"]["violations"]} == {"process-leak"}
    assert tests["test/test_crash.py"]["attempts"][-1]["signal"] == 11
    assert document["ledger"]["left"] == []
    assert document["ledger"]["created"] == document["ledger"]["removed"]
    assert objects_of(document["run"]["id"]) == []
    assert not (Path("/tmp") / f"orch-{document['run']['id']}").exists()


def test_the_tests_of_test_ok_pass(ended: tuple[Orch, str]) -> None:
    assert "2 run: 2 passed" in ended[0]("run", "test/ok").stdout

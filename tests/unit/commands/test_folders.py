import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.commands.execute import is_silent
from orchestrator.commands.folders import RunFolder
from orchestrator.model import Outcome, OutputLog, TestResult, Verb
from tests.unit.database.database_examples import make_assignment, make_attempt, make_run

SILENT = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")


@pytest.fixture
def attempt():
    """A pass of a reused slot that wrote nothing."""
    assignment = make_assignment(make_run(), "test/a.sh")
    assignment = replace(assignment, profile=replace(assignment.profile, reuse=100))
    made = make_attempt(assignment, violations=(), cases=())
    evidence = replace(made.evidence, stdout=SILENT, stderr=SILENT, outputs=(), outputs_notes=())
    return replace(made, evidence=evidence)


def test_only_a_silent_pass_in_a_reused_slot_goes_without_a_folder(attempt):
    assert is_silent(attempt)
    profile = replace(attempt.assignment.profile, reuse=1)
    assert not is_silent(replace(attempt, assignment=replace(attempt.assignment, profile=profile)))
    assert not is_silent(replace(attempt, outcome=Outcome.FAILED))
    wrote = OutputLog(path=Path("x"), total_bytes=1, kept_bytes=1, tail=b"x")
    for change in ({"stdout": wrote}, {"stderr": wrote}, {"outputs": ("a",)}, {"outputs_notes": ("no",)}):
        assert not is_silent(replace(attempt, evidence=replace(attempt.evidence, **change)))


def test_metrics_and_links_are_made_where_there_is_something_to_find(attempt, tmp_path):
    folder = RunFolder(tmp_path / ".orch", make_run())
    place = folder.of_attempt(attempt.assignment)
    assert not place.exists()
    folder.keep_metrics(replace(attempt, folder=None))
    folder.file_by_status(result(replace(attempt, folder=place), Outcome.PASSED))
    assert [p.name for p in folder.path.rglob("*")] == ["tests"]
    failed = replace(attempt, folder=place, outcome=Outcome.FAILED)
    folder.keep_metrics(failed)
    folder.file_by_status(result(failed, Outcome.FAILED))
    document = json.loads((place / "metrics.json").read_text())
    assert document["outcome"] == "failed"
    assert len(document["samples"]) == len(failed.evidence.samples)
    assert (folder.path / "by-status" / "failed" / place.name / "metrics.json").exists()


def result(attempt, outcome):
    return TestResult(attempts=(attempt,), outcome=outcome, verb=Verb.PASS)

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.config.settings import Retention
from orchestrator.coordinator.retention import old_runs
from orchestrator.coordinator.run_folder import SIZE_NAME, RunFolder, needs_no_metrics_file
from orchestrator.model.evidence import OutputLog
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import TestResult, Verb
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


def test_only_a_pass_in_a_reused_slot_that_left_no_files_goes_without_metrics(attempt):
    assert needs_no_metrics_file(attempt)
    wrote = OutputLog(path=Path("x"), total_bytes=1, kept_bytes=1, tail=b"x")
    assert needs_no_metrics_file(replace(attempt, evidence=replace(attempt.evidence, stdout=wrote, stderr=wrote)))
    profile = replace(attempt.assignment.profile, reuse=1)
    assert not needs_no_metrics_file(replace(attempt, assignment=replace(attempt.assignment, profile=profile)))
    assert not needs_no_metrics_file(replace(attempt, outcome=Outcome.FAILED))
    for change in ({"outputs": ("a",)}, {"outputs_notes": ("no",)}):
        assert not needs_no_metrics_file(replace(attempt, evidence=replace(attempt.evidence, **change)))


def test_the_size_of_an_ended_run_is_counted_once(tmp_path):
    folder = RunFolder(tmp_path / ".orch", make_run())
    (folder.path / "tests" / "a").write_text("12345")
    small = Retention(runs_days=30, runs_count=100, runs_bytes=1)
    newer = replace(make_run(), started_at=make_run().started_at + timedelta(days=1))
    RunFolder(tmp_path / ".orch", newer)
    now = newer.started_at
    (old,) = old_runs(tmp_path / ".orch", small, now=now)
    assert old.bytes == 5
    (folder.path / "tests" / "b").write_text("678")
    (folder.path / "run.json").write_text("{}")
    assert old_runs(tmp_path / ".orch", small, now=now)[0].bytes == 10
    (folder.path / "tests" / "c").write_text("not counted any more: nobody writes to a run that has ended")
    assert old_runs(tmp_path / ".orch", small, now=now)[0].bytes == 10


def test_what_a_run_left_is_added_up_while_it_goes_on(attempt, tmp_path):
    folder = RunFolder(tmp_path / ".orch", make_run())
    written = Path(folder.attempt_folder(attempt.assignment))
    written.mkdir()
    (written / "stdout").write_text("x" * 70)
    logs = replace(SILENT, path=written / "stdout", total_bytes=90, kept_bytes=70)
    printed = replace(attempt, folder=written, evidence=replace(attempt.evidence, stdout=logs, stderr=SILENT))
    silent = replace(attempt, folder=None)
    failed = replace(printed, folder=written.with_name("other"), outcome=Outcome.FAILED)
    (written.with_name("other") / "outputs").mkdir(parents=True)
    (written.with_name("other") / "outputs" / "junit.xml").write_text("x" * 1000)
    folder.write_metrics(failed)
    for one in (result(printed, Outcome.PASSED), result(silent, Outcome.PASSED), result(failed, Outcome.FAILED)):
        folder.add_sizes([one])
        folder.link_by_status(one)
    (folder.path / "run.json").write_text("{}")
    expected = sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file() and not p.is_symlink())
    folder.write_size()
    assert int((folder.path / SIZE_NAME).read_text()) == expected > 1072


def test_metrics_and_links_are_made_where_there_is_something_to_find(attempt, tmp_path):
    folder = RunFolder(tmp_path / ".orch", make_run())
    place = folder.attempt_folder(attempt.assignment)
    assert not place.exists()
    folder.write_metrics(replace(attempt, folder=None))
    folder.link_by_status(result(replace(attempt, folder=place), Outcome.PASSED))
    assert [p.name for p in folder.path.rglob("*")] == ["tests"]
    failed = replace(attempt, folder=place, outcome=Outcome.FAILED)
    folder.write_metrics(failed)
    folder.link_by_status(result(failed, Outcome.FAILED))
    document = json.loads((place / "metrics.json").read_text())
    assert document["outcome"] == "failed"
    assert len(document["samples"]) == len(failed.evidence.samples)
    assert (folder.path / "by-status" / "failed" / place.name / "metrics.json").exists()


def result(attempt, outcome):
    return TestResult(attempts=(attempt,), outcome=outcome, verb=Verb.PASS)

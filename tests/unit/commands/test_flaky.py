"""`orch flaky` as typed, on a database without an engine."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch
from orchestrator.database.store.store import Database
from orchestrator.errors import UsageError
from orchestrator.model.evidence import SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import TestResult, Verb
from tests.unit.database.database_examples import days_ago, make_assignment, make_attempt, make_result, make_run


@pytest.fixture
def project(tmp_path, monkeypatch):
    """20 nights; test/shy.py fails in every other one, beside test/loud.py, which runs in those only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCH_CONFIG", raising=False)
    (tmp_path / "profiles.yaml").write_text("version: 1\n", encoding="utf-8")
    with Database.open(None, state_dir=tmp_path / ".orch") as database:
        for night in range(20):
            run = make_run(project=tmp_path.name, started_at=days_ago(night + 1))
            database.begin_run(run, [])
            loud = night % 2 == 0
            for name in ("test/shy.py", "test/calm.py", *(["test/loud.py"] if loud else [])):
                bad = loud and name == "test/shy.py"
                attempt = make_attempt(make_assignment(run, name), Outcome.FAILED if bad else Outcome.PASSED)
                evidence = replace(
                    attempt.evidence,
                    started_at=run.started_at + timedelta(seconds=1),
                    slot=SlotUse(),
                    attestation=replace(attempt.evidence.attestation, container_id=name),
                )
                verb = Verb.FAIL if bad else Verb.PASS
                attempt = replace(attempt, evidence=evidence)
                database.record(run.id, TestResult(attempts=(attempt,), outcome=attempt.outcome, verb=verb))
        other = make_run(project="another", started_at=days_ago(1))
        database.begin_run(other, [])
        database.record(other.id, make_result(other, "test/shy.py", started_at=days_ago(1)))
    return tmp_path


def flaky(*words):
    return CliRunner().invoke(orch, ["flaky", *words])


def test_the_cause_is_named(project):
    done = flaky()
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "test/shy.py"
    assert lines[1].strip() == "10 of 20 failed: 50 % (30 to 70 %)"
    assert lines[2].strip() == ".F" * 10
    assert lines[3].strip().startswith("- fails 10 of 10 beside test/loud.py, 0 of 10 otherwise (by chance 1 in")
    assert "30 days" in lines[-1]


def test_as_json_and_csv(project):
    (row,) = json.loads(flaky("--format", "json").stdout)["flaky"]
    assert (row["test"], row["failed"], row["attempts"]) == ("test/shy.py", 10, 20)
    assert (row["factor"], row["subject"]) == ("neighbour", "test/loud.py")
    assert flaky("--format", "csv").stdout.startswith("test,attempts,failed,rate")


def test_a_window_with_too_little_in_it(project):
    assert "3 more failures are needed" in flaky("--since", "5d").output
    assert flaky("--since", "1m").output.startswith("no flaky tests")


def test_runs_belong_to_a_diagnosis(project):
    done = flaky("--runs", "7")
    assert isinstance(done.exception, UsageError)

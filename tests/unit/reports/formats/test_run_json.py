from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model.evidence import AgentRecord, Attestation, LeftoverProcess
from orchestrator.model.outcomes import CaseOutcome, CaseResult, Outcome
from orchestrator.model.results import Verb
from orchestrator.model.runs import Ledger, RunStatus
from orchestrator.model.suites import LeftOut, LeftOutReason
from orchestrator.model.usage import Sample, Source, Usage
from orchestrator.model.violations import ViolationKind
from orchestrator.reports.formats import run_json
from orchestrator.reports.json_encoding import to_json
from tests.unit.reports.conftest import events


@pytest.fixture
def text_of(tmp_path):
    """run.json of a summary, from the events that its run has told of these results."""

    def text(summary, *results):
        return b"".join(run_json.run_pieces(summary, events(tmp_path / "events.jsonl", *results))).decode()

    return text


@pytest.fixture
def rich(build, text_of):
    """run.json of a run with a bit of everything."""
    return json.loads(text_of(rich_summary(build), *rich_results(build)))


@pytest.fixture(scope="module")
def validator():
    schema = run_json.run_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def rich_results(build):
    case = CaseResult(name="test_a", outcome=CaseOutcome.FAILED, duration_seconds=None, message="no")
    agent = AgentRecord(exit_code=0, leftovers=(LeftoverProcess(pid=7, command_line="sleep 1"),))
    attestation = Attestation(container_name="orch-1", container_id="c", image_id="sha256:1")
    first = build.attempt(outcome="oom", message="killed", profile=build.profile("fast", "128M"), signal=9)
    second = build.attempt(
        attempt=2, cases=(case,), agent=agent, violations=(build.violation(),), folder=Path("/x")
    )
    second = build.replace(second, evidence=build.replace(second.evidence, attestation=attestation))
    unmeasured = build.result("b.py", "infra", usage=build.usage(None, None, pids_peak=None, oom_kills=None))
    return build.of(first, second, verb="UNDERSIZED"), unmeasured


def rich_summary(build):
    return build.summary(
        *rich_results(build),
        not_run=("c.py",),
        left_out=(LeftOut(path="d.py", reason=LeftOutReason.OUTSIDE),),
        ledger=Ledger(expected_containers=3, created_containers=3, removed_containers=2, left=("container x",)),
    )


def test_the_document_has_the_designs_shape_and_obeys_its_schema(rich, validator):
    document = rich
    validator.validate(document)
    assert list(document) == ["schema", "run", "tests", "ledger"]
    assert document["schema"] == 1
    assert document["run"]["started_at"] == "2025-11-21T09:30:00+00:00"
    assert document["run"]["counts"]["tests"] == 2
    assert document["run"]["not_run"] == ["c.py"]
    assert document["ledger"] == {
        "expected": 3,
        "created": 3,
        "removed": 2,
        "left": ["container x"],
        "unexpected": [],
    }
    test = document["tests"][0]
    assert (test["outcome"], test["verb"], test["profile"], test["queue_seconds"]) == (
        "passed",
        "UNDERSIZED",
        "standard",
        0.5,
    )
    assert [a["limits"]["memory_bytes"] for a in test["attempts"]] == [128 << 20, 512 << 20]
    assert [a["signal"] for a in test["attempts"]] == [9, None]
    assert test["usage"]["source"] == "kernel"
    assert test["violations"][0]["kind"] == "child-oom"
    assert test["cases"] == [{"name": "test_a", "outcome": "failed", "duration_seconds": None, "message": "no"}]
    assert test["leftovers"] == [{"pid": 7, "command_line": "sleep 1"}]


def test_what_was_not_measured_is_null_with_a_reason(rich):
    usage = rich["tests"][1]["usage"]
    assert usage["memory_peak_bytes"] is None
    assert usage["source"] is None
    assert usage["missing"]["cpu_seconds"] == "no cgroup files"


def test_the_source_is_the_weakest_of_the_headline_figures(build):
    usage = build.replace(
        build.usage(),
        sources=MappingProxyType({"cpu_seconds": Source.STATS, "memory_peak_bytes": Source.KERNEL}),
    )
    document = run_json.result_document(build.result(usage=usage))
    assert document["usage"]["source"] == "stats"
    assert document["usage"]["sources"] == {"cpu_seconds": "stats", "memory_peak_bytes": "kernel"}


def test_the_schema_refuses_a_wrong_document(rich, validator):
    rich["tests"][0]["outcome"] = "excellent"
    with pytest.raises(jsonschema.ValidationError, match="excellent"):
        validator.validate(rich)
    del rich["ledger"]
    assert not validator.is_valid(rich)


def test_the_schema_knows_every_word_of_the_model():
    definitions = run_json.run_schema()["$defs"]
    assert definitions["outcome"]["enum"] == [outcome.value for outcome in Outcome]
    assert definitions["test"]["properties"]["verb"]["enum"] == [verb.value for verb in Verb]
    assert definitions["violation"]["properties"]["kind"]["enum"] == [kind.value for kind in ViolationKind]
    assert definitions["case"]["properties"]["outcome"]["enum"] == [case.value for case in CaseOutcome]
    assert definitions["run"]["properties"]["status"]["enum"] == [status.value for status in RunStatus]


def test_nan_and_infinity_are_null(build):
    violation = build.replace(build.violation(), measured=float("nan"), limit=float("inf"))
    text = to_json(run_json.result_document(build.result(violations=(violation,))))
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["violations"][0]["measured"] is None


def test_undecodable_bytes_become_the_replacement_character(build, text_of):
    name = b"test/caf\xe9.py".decode("utf-8", "surrogateescape")
    result = build.result(name, message=b"\xff".decode("latin-1"))
    text = text_of(build.summary(result), result)
    assert json.loads(text)["tests"][0]["id"] == "test/caf\ufffd.py"
    assert json.loads(text)["tests"][0]["message"] == "ÿ"


def test_passwords_in_arguments_are_not_printed(build, text_of):
    run = build.replace(build.run, argv=("orch", "run", "--db", "postgresql://me:s3cret@db/x"))
    assert "s3cret" not in text_of(build.summary(run=run))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text(st.characters()))
def test_an_event_is_one_line_whatever_a_test_says(build, message):
    line = run_json.test_finished_line(build.result(outcome="failed", message=message))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert json.loads(line)["event"] == "test-finished"


def test_the_events_of_a_run_tell_it_from_start_to_end(build, rich):
    summary, result = rich_summary(build), rich_results(build)[0]
    attempt = result.attempts[0]
    events = [
        run_json.run_started_line(summary.run, [attempt.assignment]),
        run_json.test_started_line(attempt.assignment),
        run_json.attempt_finished_line(attempt, will_retry=True),
        run_json.test_finished_line(result),
        run_json.run_finished_line(summary),
    ]
    parsed = [json.loads(line) for line in events]
    assert [event["event"] for event in parsed] == [
        "run-started",
        "test-started",
        "attempt-finished",
        "test-finished",
        "run-finished",
    ]
    assert parsed[0]["planned"] == 1
    assert parsed[2]["will_retry"] is True
    assert parsed[2]["result"]["outcome"] == "oom"
    assert parsed[3]["test"] == rich["tests"][0]
    assert parsed[4]["ledger"]["left"] == ["container x"]


def test_samples_are_for_metrics_only(build):
    attempt = build.attempt()
    series = (Sample(at_seconds=0.1, memory_bytes=5),)
    attempt = build.replace(attempt, evidence=build.replace(attempt.evidence, samples=series))
    assert "samples" not in run_json.attempt_document(attempt)
    (sample,) = run_json.attempt_document(attempt, samples=True)["samples"]
    assert (sample["at_seconds"], sample["memory_bytes"], sample["cpu_seconds"]) == (0.1, 5, None)


def test_the_file_is_written_whole(build, tmp_path):
    path = tmp_path / "deep" / "run.json"
    for result in (build.result(), build.result("other.py")):
        told = events(tmp_path / "events.jsonl", result)
        run_json.write_run_document(build.summary(result), told, path)
    assert json.loads(path.read_text())["tests"][0]["id"] == "other.py"
    assert list(path.parent.iterdir()) == [path]


def test_a_large_run_has_a_line_for_each_test_and_says_the_same(build, text_of):
    results = [build.result(f"t{n}.py") for n in range(300)]
    large = text_of(build.summary(*results), *results)
    assert large.count("\n") == 300 + 2
    small = text_of(build.summary(*results[:3]), *results[:3])
    assert small.count("\n") > 100
    assert json.loads(large)["tests"][:3] == json.loads(small)["tests"]
    assert json.loads(large)["tests"] == [json.loads(to_json(run_json.result_document(r))) for r in results]


def test_figures_are_in_the_models_order_where_people_read_them(build, rich):
    names = [field.name for field in fields(Usage)]
    for part in (rich["tests"][0], *rich["tests"][0]["attempts"]):
        assert list(part["usage"]) == [*names, "source"]


def test_other_events_between_those_of_tests_are_not_in_it(build, tmp_path):
    results = [build.result(f"t{n}.py") for n in range(30)]
    path = events(tmp_path / "events.jsonl", *results)
    other = run_json.attempt_finished_line(results[0].final, will_retry=False)
    path.write_text("\n".join(f"{other}\n{line}" for line in path.read_text().splitlines()) + "\n")
    document = json.loads(b"".join(run_json.run_pieces(build.summary(*results), path)))
    assert [test["id"] for test in document["tests"]] == [f"t{n}.py" for n in range(30)]


@pytest.mark.parametrize("number", [3, 300])
@pytest.mark.parametrize("end", ["", "}", "\nnot all of them\n"])
def test_events_that_something_else_has_changed_make_no_run_json(build, tmp_path, number, end):
    results = [build.result(f"t{n}.py") for n in range(number)]
    path = events(tmp_path / "events.jsonl", *results)
    path.write_text(path.read_text()[:-20] + end)
    with pytest.raises(OSError, match=f"{number - 1} of {number} tests"):
        run_json.write_run_document(build.summary(*results), path, tmp_path / "run.json")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        run_json.write_run_document(build.summary(*results), path, tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text(st.characters()), seconds=st.floats())
def test_the_quick_text_of_a_result_says_what_the_document_says(build, message, seconds):
    result = build.result(outcome="failed", message=message, seconds=seconds)
    assert json.loads(run_json.result_text(result)) == run_json.result_document(result)
    attempt = result.final
    assert json.loads(run_json.attempt_text(attempt, samples=True)) == run_json.attempt_document(
        attempt, samples=True
    )

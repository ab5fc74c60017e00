import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.model.outcomes import CaseOutcome, CaseResult
from orchestrator.reports.formats.ctrf import CtrfReport
from tests.unit.reports.conftest import attempt, of, result, summary, told, violation
from tests.unit.reports.ctrf_shape import DOCUMENT

VALIDATOR = Draft202012Validator(DOCUMENT, format_checker=Draft202012Validator.FORMAT_CHECKER)


def check(*results, **changes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ctrf.json"
        told(CtrfReport(path.parent), *results).write(summary(*results, **changes), path)
        text = path.read_text(encoding="ascii")
    found = json.loads(text)
    assert text == json.dumps(found, indent=2) + "\n"
    VALIDATOR.validate(found)
    counted = Counter(test["status"] for test in found["results"]["tests"])
    summed = found["results"]["summary"]
    assert {name: summed[name] for name in ("passed", "failed", "skipped", "pending", "other")} == {
        name: counted[name] for name in ("passed", "failed", "skipped", "pending", "other")
    }
    assert summed["tests"] == len(found["results"]["tests"])
    return found["results"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("passed", "passed"),
        ("failed", "failed"),
        ("timeout", "failed"),
        ("oom", "failed"),
        ("crashed", "failed"),
        ("skipped", "skipped"),
        ("infra", "other"),
        ("interrupted", "other"),
    ],
)
def test_every_outcome_has_a_status(outcome, status):
    (one,) = check(result("a.py", outcome))["tests"]
    assert one["status"] == status


def test_what_was_not_run_is_pending():
    found = check(result("a.py"), not_run=("b.py", "c.py"))
    assert found["summary"]["pending"] == 2


def test_a_flaky_pass_has_all_its_attempts():
    (one,) = check(of(attempt("a.py", "failed", message="no"), attempt("a.py", attempt=2), flaky=True))["tests"]
    assert (one["status"], one["flaky"], one["retries"]) == ("passed", True, 1)
    assert [(a["attempt"], a["status"]) for a in one["retryAttempts"]] == [(1, "failed"), (2, "passed")]
    assert one["retryAttempts"][0]["message"] == "no"


def test_cases_are_steps_and_figures_are_kept():
    cases = (
        CaseResult(name="ok", outcome=CaseOutcome.PASSED),
        CaseResult(name="bad", outcome=CaseOutcome.FAILED, message="assert 0"),
        CaseResult(name="later", outcome=CaseOutcome.SKIPPED),
    )
    (one,) = check(result("a.py", "failed", cases=cases, stdout=b"words\n", violations=(violation(),)))["tests"]
    assert [step["status"] for step in one["steps"]] == ["passed", "failed", "skipped"]
    assert one["trace"] == "bad\nassert 0"
    assert one["stdout"] == ["words"]
    assert one["extra"]["memoryPeakBytes"] == 61 << 20
    assert one["extra"]["violations"][0]["kind"] == "child-oom"
    assert (one["duration"], one["stop"] - one["start"]) == (412, 412)


@settings(max_examples=50)
@given(st.text(min_size=1), st.text(), st.binary())
def test_any_text_is_a_valid_document(name, message, output):
    found = check(result(name, "failed", message=message, stdout=output))
    json.dumps(found, allow_nan=False).encode()


def test_the_file_is_ascii_json(tmp_path):
    told(CtrfReport(tmp_path), result("тест.py")).write(summary(result("тест.py")), tmp_path / "ctrf.json")
    assert json.loads((tmp_path / "ctrf.json").read_text(encoding="ascii"))["reportFormat"] == "CTRF"
    assert [path.name for path in tmp_path.iterdir()] == ["ctrf.json"], "what waited has no name"

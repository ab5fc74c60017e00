import json
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from orchestrator.coordinator.options import RunOptions
from orchestrator.coordinator.output.report_files import ReportFiles
from orchestrator.model.evidence import AgentRecord
from tests.unit.reports.conftest import attempt, events, of, result, summary, violation

NAMES = ("junit", "ctrf", "gitlab_metrics", "sarif")


@pytest.fixture
def folder(tmp_path):
    """As much of a run's folder as reports need."""
    return SimpleNamespace(path=tmp_path, events=tmp_path / "events.jsonl", writable_path=lambda: tmp_path)


def some(number):
    return [result(f"{n}.py", ("passed", "failed")[n % 5 == 4], violations=(violation(),)) for n in range(number)]


def written(folder, batches, **options):
    """The files' content, by name."""
    files = ReportFiles(RunOptions(**options), folder)
    every = [one for batch in batches for one in batch]
    events(folder.events, *every)
    for batch in batches:
        files.add(batch)
    assert {path.name for path in folder.path.iterdir()} == {"events.jsonl"}, "nothing half made can be seen"
    assert files.write(summary(*every), folder.events) == []
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if path != folder.events}


def test_however_results_come_the_files_are_the_same(folder):
    results, asked = some(30), {name: folder.path / name for name in NAMES}
    whole = written(folder, [results], **asked)
    for path in folder.path.iterdir():
        path.unlink()
    assert written(folder, [results[:1], results[1:7], [], results[7:]], **asked) == whole
    assert set(whole) == {*NAMES, "run.json", "junit.xml"}
    assert whole["junit"] == whole["junit.xml"]
    assert len(json.loads(whole["run.json"])["tests"]) == len(json.loads(whole["ctrf"])["results"]["tests"]) == 30
    assert len(json.loads(whole["sarif"])["runs"][0]["results"]) == 30


def test_a_run_that_ran_nothing_has_its_files(folder):
    files = written(folder, [])
    assert json.loads(files["run.json"])["tests"] == []
    assert len(ET.fromstring(files["junit.xml"])) == 0


def test_one_file_that_cannot_be_made_is_named_and_the_others_are_written(folder):
    files = ReportFiles(RunOptions(ctrf=folder.path), folder)
    files.add(some(3))
    problems = files.write(summary(*some(3)), folder.events)
    assert [text.split(" could not be written: ")[0] for text in problems] == [
        str(folder.path / "run.json"),  # there are no events
        str(folder.path),
    ]
    assert [path.name for path in folder.path.iterdir()] == ["junit.xml"]


def test_what_a_failed_attempt_of_a_flaky_test_printed_is_in_its_report(folder):
    first = attempt("t.py", "failed", stdout=b"it was 3", agent=AgentRecord(exit_code=1))
    flaky = of(first, attempt("t.py", attempt=2), flaky=True)
    case = ET.fromstring(written(folder, [[flaky]])["junit.xml"]).find(".//testcase/flakyFailure/system-out")
    assert case is not None
    assert case.text == "it was 3"

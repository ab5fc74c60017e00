from __future__ import annotations

from xml.dom import minidom
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml

from orchestrator.model.evidence import SlotUse
from orchestrator.model.outcomes import CaseOutcome, CaseResult
from orchestrator.reports.formats.junit import JUnitReport, junit_element
from tests.unit.reports.conftest import told

# What junit-10.xsd of Jenkins' xunit plugin allows inside what.
RERUNS = {"rerunFailure", "rerunError", "flakyFailure", "flakyError"}
ALLOWED = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err", *RERUNS},
    **{rerun: {"stackTrace", "system-out", "system-err"} for rerun in RERUNS},
}


@pytest.fixture
def written(build, tmp_path):
    """Writes results as JUnit, has three parsers read it, and returns the root."""

    def write(*results):
        path = tmp_path / "junit.xml"
        told(JUnitReport(tmp_path), *results).write(build.summary(*results), path)
        root = ET.fromstring(path.read_bytes())
        assert [suite.name for suite in JUnitXml.fromfile(str(path))] == [suite.get("name") for suite in root]
        minidom.parse(str(path)).unlink()
        for parent in root.iter():
            assert {child.tag for child in parent} <= ALLOWED.get(parent.tag, set())
        return root

    return write


def case(name, outcome="passed", message=""):
    return CaseResult(name=name, outcome=CaseOutcome(outcome), duration_seconds=0.1, message=message)


def shape(testcase):
    return [(child.tag, child.get("type")) for child in testcase]


def test_a_test_without_cases_is_one_testcase(build, written):
    root = written(build.result("test/test_a.sh"), build.result("test/test_b.sh", "failed", message="exit code 1"))
    assert dict(root.items()) == {
        "name": "orch run b0b38ba7",
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "time": "12.400",
    }
    (testcase,) = root[1].iter("testcase")
    assert testcase.get("classname") == "test.test_b"
    assert testcase.get("name") == "test/test_b.sh"
    assert testcase.get("time") == "0.412"
    assert testcase.find("failure").get("message") == "exit code 1"


def test_cases_inside_a_test_are_testcases(build, written):
    cases = (
        case("test_a"),
        case("test_b", "failed", "assert 1 == 2\n  at line 3"),
        case("test_c", "error", "fixture broke"),
        case("test_d", "skipped", "no network"),
        case("test_e", "xfailed"),
    )
    (suite,) = written(
        build.result(outcome="failed", message="2 of 5 cases failed", cases=cases, stdout=b"hello\n")
    )
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "5",
        "1",
        "1",
        "2",
    )
    assert [shape(testcase) for testcase in suite.iter("testcase")] == [
        [],
        [("failure", "failed")],
        [("error", "error")],
        [("skipped", "skipped")],
        [("skipped", "xfail")],
    ]
    failure = suite.find(".//failure")
    assert failure.get("message") == "assert 1 == 2"
    assert failure.text == "assert 1 == 2\n  at line 3"
    assert suite.find("system-out").text == "hello"


@pytest.mark.parametrize("outcome", ["timeout", "oom", "crashed", "infra", "interrupted"])
def test_an_end_that_no_case_explains_is_an_error_of_the_test_itself(build, written, outcome):
    (suite,) = written(build.result("test/t.py", outcome, message="why", cases=(case("test_a"),)))
    (own,) = [testcase for testcase in suite.iter("testcase") if testcase.get("name") == "test/t.py"]
    assert shape(own) == [("error", outcome)]
    assert suite.get("errors") == "1"
    assert suite.get("tests") == "2"


def test_a_failure_without_a_failed_case_is_not_lost(build, written):
    (suite,) = written(build.result(outcome="failed", message="exit code 3", cases=(case("test_a"),)))
    assert [shape(testcase) for testcase in suite.iter("testcase")] == [[], [("failure", "failed")]]


def test_a_flaky_pass_has_its_earlier_failures(build, written):
    failed = build.attempt(outcome="failed", message="exit code 1", stdout=b"first try\n", stderr=b"oh\n")
    timeout = build.attempt(outcome="timeout", attempt=2, message="after 10 s")
    (suite,) = written(build.of(failed, timeout, build.attempt(attempt=3), flaky=True))
    (testcase,) = suite.iter("testcase")
    assert shape(testcase) == [("flakyFailure", "failed"), ("flakyError", "timeout")]
    assert testcase.find("flakyFailure/stackTrace").text == "exit code 1"
    assert testcase.find("flakyFailure/system-out").text == "first try"
    assert testcase.find("flakyFailure/system-err").text == "oh"
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_a_flaky_case_inside_a_test_has_its_own(build, written):
    first = build.attempt(outcome="failed", cases=(case("a"), case("b", "failed", "no")))
    second = build.attempt(attempt=2, cases=(case("a"), case("b")))
    (suite,) = written(build.of(first, second, flaky=True))
    assert [shape(testcase) for testcase in suite.iter("testcase")] == [[], [("flakyFailure", "failed")]]


def test_failed_retries_are_reruns_of_the_first_failure(build, written):
    attempts = [
        build.attempt(outcome=outcome, attempt=n) for n, outcome in enumerate(["failed", "oom", "failed"], 1)
    ]
    (suite,) = written(build.of(*attempts))
    (testcase,) = suite.iter("testcase")
    assert shape(testcase) == [("failure", "failed"), ("rerunError", "oom"), ("rerunFailure", "failed")]


def test_a_flaky_test_that_policy_fails_is_a_failure(build, written):
    first = build.attempt(outcome="failed", cases=(case("a", "failed", "no"),))
    (suite,) = written(build.of(first, build.attempt(attempt=2, cases=(case("a"),)), flaky=True, outcome="failed"))
    assert suite.get("failures") == "1"


def test_undersized_is_not_flaky(build, written):
    first = build.attempt(outcome="oom", profile=build.profile("fast"), message="killed")
    (suite,) = written(build.of(first, build.attempt(attempt=2), verb="UNDERSIZED"))
    (testcase,) = suite.iter("testcase")
    assert shape(testcase) == []
    assert suite.find(".//property[@name='orch.attempt.1']").get("value") == "oom under fast: killed"


def test_a_skipped_test_is_skipped(build, written):
    (suite,) = written(build.result(outcome="skipped", message="exit code 77"))
    assert shape(suite.find("testcase")) == [("skipped", "skipped")]


def test_cases_of_one_name_keep_their_order(build, written):
    first = build.attempt(outcome="failed", cases=(case("a"), case("a", "failed", "no")))
    second = build.attempt(attempt=2, cases=(case("a"), case("a")))
    (suite,) = written(build.of(first, second, flaky=True))
    assert [shape(testcase) for testcase in suite.iter("testcase")] == [[], [("flakyFailure", "failed")]]


def test_resources_are_properties(build, written):
    (suite,) = written(build.result(violations=(build.violation(),), usage=build.usage(pids_peak=None)))
    properties = {element.get("name"): element.get("value") for element in suite.find("properties")}
    assert properties["orch.outcome"] == "passed"
    assert properties["orch.profile"] == "standard"
    assert properties["orch.memory_peak_bytes"] == str(61 << 20)
    assert properties["orch.cpu_seconds"] == "0.300000"
    assert properties["orch.cpu_seconds.source"] == "kernel"
    assert properties["orch.violation.1"] == "child-oom: a child was killed, the test exited 0"
    assert "orch.pids_peak" not in properties
    assert not any(name.endswith(".bound") for name in properties)


def test_a_bound_is_marked_as_one(build, written):
    (suite,) = written(build.result(usage=build.usage(pids_peak=9, upper_bounds=("pids_peak",))))
    properties = {element.get("name"): element.get("value") for element in suite.find("properties")}
    assert (properties["orch.pids_peak"], properties["orch.pids_peak.bound"]) == ("9", "<=")


def test_ten_thousand_cases_are_quick(build, written):
    (suite,) = written(build.result(cases=tuple(case("same") for _ in range(10_000))))
    assert suite.get("tests") == "10000"


HOSTILE = "]]> <script>&amp;\x00\x0b\x1b[31m\ud800\udfff\uffff\u202e\r\n\t é"


def test_whatever_a_test_prints_the_file_is_legal_xml(build, written):
    (suite,) = written(
        build.result(
            f"test/{HOSTILE}.py",
            "failed",
            message=HOSTILE,
            stdout=HOSTILE.encode("utf-8", "surrogatepass") + b"\xff",
            cases=(case(HOSTILE, "failed", HOSTILE),),
            violations=(build.violation(message=HOSTILE),),
        )
    )
    assert "]]> <script>&amp;\\0\\x0b\\x1b[31m" in suite.find("system-out").text
    assert suite.find(".//failure").text.startswith("]]> <script>")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters()), data=st.binary())
def test_any_text_and_any_bytes_stay_legal(build, written, text, data):
    written(build.result(text or "x", "failed", message=text, stdout=data, stderr=data))


def test_names_and_output_of_any_size_are_bounded(build, written, tmp_path):
    huge = "x" * 10_000_000
    written(build.result(huge, "failed", message=huge, stdout=huge.encode(), cases=(case(huge, "failed", huge),)))
    assert (tmp_path / "junit.xml").stat().st_size < 200_000


def test_a_large_run_is_written_as_the_tree_says(build, tmp_path):
    names = ["test/a.sh", "test/q\"<&>'é\u202e.sh", "noextension", "test/" + "x" * 3000 + ".sh"]
    results = [build.result(name, clamped=("a",)) for name in names]
    results += [build.result("f.sh", outcome="failed", message="no\x01"), build.result("r.sh", repetition=3)]
    summary = build.summary(*results)
    tree = junit_element(summary, results)
    ET.indent(tree)
    report = told(JUnitReport(tmp_path), *results[:2])
    told(report, *results[2:]).write(summary, tmp_path / "junit.xml")
    written = (tmp_path / "junit.xml").read_bytes()
    assert written == ET.tostring(tree, encoding="utf-8", xml_declaration=True) + b"\n"


def test_a_run_without_tests_is_a_report_too(build, tmp_path):
    JUnitReport(tmp_path).write(build.summary(), tmp_path / "junit.xml")
    root = ET.fromstring((tmp_path / "junit.xml").read_bytes())
    assert (root.tag, root.get("tests"), len(root)) == ("testsuites", "0", 0)


def test_a_pass_in_a_fresh_slot_after_a_failure_in_a_reused_one_is_an_ordinary_pass(build, written):
    slot = SlotUse(position=9)
    first = build.attempt(outcome="failed", message="exit code 1", slot=slot)
    (suite,) = written(build.of(first, build.attempt(attempt=2)))
    assert [shape(testcase) for testcase in suite.iter("testcase")] == [[]]
    assert suite.find(".//property[@name='orch.flaky']").get("value") == "false"


def test_a_confirmed_failure_is_the_fresh_one_alone(build, written):
    slot = SlotUse(position=9)
    first = build.attempt(outcome="failed", message="as the ninth", slot=slot)
    (suite,) = written(build.of(first, build.attempt(outcome="failed", message="alone", attempt=2)))
    (testcase,) = suite.iter("testcase")
    assert shape(testcase) == [("failure", "failed")]
    assert testcase.find("failure").get("message") == "alone"

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model import CaseOutcome, Command, ResultsFormat, Runner, Suite
from orchestrator.suites import junit as junit_reader
from orchestrator.suites import pytest as runner
from orchestrator.suites import results as results_reader
from orchestrator.suites.junit import (
    MAX_CASES,
    MESSAGE_CHARS,
    NAME_CHARS,
    ResultsError,
    read_junit,
)
from orchestrator.suites.results import read_cases

PLAIN = Command(argv=("run",), results=ResultsFormat.JUNIT, results_file="junit.xml")
TAP = Command(argv=("run",), results=ResultsFormat.TAP, skip_exit_codes=frozenset({77}))
P, F, E, S, X = (
    CaseOutcome.PASSED,
    CaseOutcome.FAILED,
    CaseOutcome.ERROR,
    CaseOutcome.SKIPPED,
    CaseOutcome.XFAILED,
)


def junit(tmp_path, text, exit_code=0, command=PLAIN):
    (tmp_path / "junit.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_cases(command, tmp_path, b"", exit_code)


def outcomes(report):
    return [(case.name, case.outcome) for case in report.cases]


# ------------------------------------------------------------------ JUnit: shapes


def test_cases_at_the_root_nested_and_in_unknown_places_are_all_found(tmp_path):
    report = junit(
        tmp_path,
        """<?xml version="1.0" encoding="utf-8"?><!-- made by hand --><testsuites>
        <testcase name="root"/>
        <testsuite name="a"><testcase classname="C" name="one" time="0.5"/>
          <testsuite name="b">
            <testcase name="two"><failure message="m">m and more</failure></testcase>
          </testsuite>
          <group><testcase name="three"><error message="e"/></testcase></group>
        </testsuite>
        <testsuite name="c"><testcase name="four"><skipped message="why"/></testcase>
          <testcase name="five"><skipped type="pytest.xfail" message="bug"/></testcase>
          <testcase name="six" status="notrun"/><system-out>x</system-out></testsuite></testsuites>""",
        exit_code=1,
    )
    assert report.problem is None
    assert outcomes(report) == [
        ("root", P), ("C::one", P), ("two", F), ("three", E), ("four", S), ("five", X), ("six", S),
    ]  # fmt: skip
    assert [case.message for case in report.cases][2:6] == ["m\nm and more", "e", "why", "bug"]
    assert report.cases[1].duration_seconds == 0.5
    assert report.cases[0].duration_seconds is None


def test_a_single_suite_as_root_a_namespace_and_a_suites_own_error(tmp_path):
    inside = '<testcase name="a"><failure/></testcase><error message="m"/>'
    text = f'<testsuite xmlns="urn:x" name="s">{inside}</testsuite>'
    assert outcomes(junit(tmp_path, text, exit_code=1)) == [("a", F), ("s", E)]


@pytest.mark.parametrize("time_text", ["", "abc", "nan", "inf", "-1", "1" * 5000])
def test_a_time_that_is_none_is_none(tmp_path, time_text):
    report = junit(tmp_path, f'<testsuite><testcase name="a" time="{time_text}"/></testsuite>')
    assert [case.duration_seconds for case in report.cases] == [None]


def test_what_xml_cannot_hold_is_replaced(tmp_path):
    name = b"a\x1b[31m\x00\xff&#0;&#x1b;&#65;&#99999999999;"
    text = b'\xef\xbb\xbf<testsuite><testcase name="%s"/></testsuite>'
    assert outcomes(junit(tmp_path, text % name)) == [("a\ufffd[31m\ufffd\ufffd\ufffd\ufffdA\ufffd", P)]


# ------------------------------------------------------------------ JUnit: hostile


BOMB = """<?xml version="1.0"?> <!-- x --> <!DOCTYPE lolz [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>
<testsuite><testcase name="&b;"/></testsuite>"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "DOCTYPE"),
        (BOMB.encode("utf-16"), "parsed"),
        (b"\xef\xbb\xbf" + BOMB.encode(), "DOCTYPE"),
        ("<!doctype html><html/>", "DOCTYPE"),
        ("<testsuite><!DOCTYPE a></testsuite>", "parsed"),
        ("", "parsed"),
        ("<?xml", "ends before"),
        ("<!-- ", "ends before"),
        ("<testsuite><testcase name='a'/>", "parsed"),
        ("<html><testcase name='a'/></html>", "parsed"),
        ("<testsuite></testsuite>", "name no case"),
        ("<testsuite><testcase name='&x;'/></testsuite>", "parsed"),
    ],
)
def test_what_cannot_be_believed_is_a_problem_and_no_cases(tmp_path, text, why):
    report = junit(tmp_path, text)
    assert why in (report.problem or "")
    assert report.cases == ()


def test_utf_16_hides_no_doctype(tmp_path):
    """Without its byte order mark: NULs are replaced before the prolog is read, and so it is no XML."""
    assert junit(tmp_path, BOMB.encode("utf-16-le")).problem


def test_a_doctype_in_the_text_of_a_failure_is_text(tmp_path):
    text = "<testsuite><testcase name='a'><failure><![CDATA[<!DOCTYPE html>]]></failure></testcase></testsuite>"
    assert junit(tmp_path, text, exit_code=1).cases[0].message == "<!DOCTYPE html>"


def test_size_is_bounded_by_the_file_and_by_its_elements(tmp_path, monkeypatch):
    monkeypatch.setattr(junit_reader, "_MAX_TAGS", 2000)
    monkeypatch.setattr(junit_reader, "_MAX_ATTRIBUTES", 1000)
    with (tmp_path / "junit.xml").open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it all would never end
    assert "larger than 32 MiB" in (read_cases(PLAIN, tmp_path, b"", 0).problem or "")
    with pytest.raises(ResultsError, match="millions"):
        read_junit(b"<testsuite>" + b"<a/>" * 2001 + b"</testsuite>", lambda _class, name: name)
    attributes = b"<testsuite " + b" ".join(b'a%d=""' % n for n in range(1001)) + b"/>"
    with pytest.raises(ResultsError, match="millions"):
        read_junit(attributes, lambda _class, name: name)


def test_nesting_without_end_neither_overflows_nor_takes_long(tmp_path):
    depth = 50_000
    started = time.process_time()
    text = "<testsuite>" * depth + "<testcase name='deep'/>" + "</testsuite>" * depth
    assert outcomes(junit(tmp_path, text)) == [("deep", P)]
    inside = "<testsuite>" + "<testcase name='a'>" * depth + "</testcase>" * depth + "</testsuite>"
    assert outcomes(junit(tmp_path, inside)) == [("a", P)]
    assert time.process_time() - started < 5


def test_cases_names_and_messages_are_bounded(tmp_path, monkeypatch):
    long = "n" * 100_000
    failed = f'<testcase name="{long}2"><failure message="{long}"/></testcase>'
    text = f'<testsuite><testcase name="{long}1"/>{failed}</testsuite>'
    first, second = junit(tmp_path, text, exit_code=1).cases
    assert (len(first.name) <= NAME_CHARS, len(second.message)) == (True, MESSAGE_CHARS)
    assert first.name != second.name
    assert MAX_CASES == 100_000
    monkeypatch.setattr(junit_reader, "MAX_CASES", 100)
    monkeypatch.setattr(results_reader, "MAX_CASES", 100)
    report = junit(tmp_path, "<testsuite>" + "<testcase name='a'/>" * 101 + "</testsuite>")
    assert len(report.cases) == 100
    assert "101 cases" in (report.problem or "")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_only_a_regular_file_is_read(tmp_path, kind):
    path = tmp_path / "junit.xml"
    if kind == "link":
        (tmp_path / "real").write_text("<testsuite><testcase name='a'/></testsuite>")
        path.symlink_to("real")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    report = read_cases(PLAIN, tmp_path, b"", 0)
    assert report.cases == ()
    assert report.problem


# ------------------------------------------------------------------ beside the exit code


@pytest.mark.parametrize(
    ("exit_code", "problem"),
    [
        (0, "the runner exited 0 without writing its results"),
        (1, "the runner exited 1 without writing its results"),
        (2, None),
        (137, None),
        (None, None),
    ],
)
def test_promised_results_that_never_came(tmp_path, exit_code, problem):
    assert read_cases(PLAIN, tmp_path / "none", b"", exit_code).problem == problem


def test_exit_0_beside_a_failed_case_is_a_problem_that_names_it(tmp_path):
    failed = "<testcase name='a'><failure/></testcase><testcase name='b'><error/></testcase>"
    report = junit(tmp_path, f"<testsuite>{failed}</testsuite>")
    assert report.problem == "the runner exited 0, but a case failed: a and 1 more"
    assert len(report.cases) == 2


def test_exit_1_without_a_failed_case_is_a_note_only(tmp_path):
    report = junit(tmp_path, "<testsuite><testcase name='a'/></testsuite>", exit_code=1)
    assert (report.problem, report.note) == (None, "the runner exited 1, but no case failed")


@pytest.mark.parametrize(
    ("header", "short"),
    [('tests="2"', False), ('tests="3"', True), ('tests="3" skipped="1"', False), ('tests="x"', False)],
)
def test_fewer_cases_than_the_header_counts_are_a_problem(tmp_path, header, short):
    report = junit(tmp_path, f"<testsuite {header}><testcase name='a'/><testcase name='b'/></testsuite>")
    assert ("short" in (report.problem or "")) is short


def test_a_forged_report_is_not_believed(tmp_path):
    """A test writes a report like pytest's and ends the process: nothing of it counts."""
    suite = Suite(name="u", match=(), runner=Runner.PYTEST)
    command = runner.build_command(suite, "test_a.py", None, {})
    case = '<testcase classname="test_a" name="test_x"/>'
    forged = '<testsuites><testsuite name="{}" tests="1">' + case + "</testsuite></testsuites>"
    report = junit(tmp_path, forged.format("pytest"), command=command)
    assert (report.cases, report.problem) == (
        (),
        "the results file was not written by the pytest that was started",
    )
    real = junit(tmp_path, forged.format(runner.report_name(command.argv)), command=command)
    assert (outcomes(real), real.problem) == ([("test_x", P)], None)


def test_results_by_exit_code_read_nothing(tmp_path):
    command = Command(argv=("x",), results=ResultsFormat.EXIT_CODE)
    assert junit(tmp_path, BOMB, command=command).problem is None


# ------------------------------------------------------------------ TAP


def tap(text, exit_code=0, tmp_path=None):
    return read_cases(TAP, tmp_path, text.encode() if isinstance(text, str) else text, exit_code)


def test_tap_with_all_its_directives(capsys):
    report = tap(
        """TAP version 13
1..6
# a comment
ok 1 - first
not ok 2 - second # TODO later
ok 3 # skip no network
ok 4 fourth # TODO already works
not ok 5 - fifth # SKIP is no excuse
  ---
  message: "deep"
  ...
okay, this is not a result
123 is not a plan
    not ok 1 - of a subtest
    1..1
not ok
""",
        exit_code=1,
    )
    assert report.problem is None
    assert outcomes(report) == [
        ("first", P), ("second", X), ("3", S), ("fourth", P), ("fifth", F), ("6", F),
    ]  # fmt: skip
    assert report.cases[2].message == "no network"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1..5\nok\nok\nok\n", "TAP planned 5 tests, but 3 reported a result"),
        ("1..1\nok\nok\n", "TAP planned 1 tests, but 2 reported a result"),
        ("ok 1\n1..1\n", None),
        ("ok 1\r\n1..1\r\n", None),
        ("ok 1\nok 2\n", "TAP has no plan"),
        ("1..1\nok 1\n1..1\n", "more than one plan"),
        ("1..2\nok 1\nok 1\n", "out of order: 1 where 2 was due"),
        ("1..3\nok 1\nBail out! disk full\nok 2\nok 3\n", "the test bailed out: disk full; TAP planned 3"),
        ("1..2\nok 1\nnot ok 2 x\n", "the runner exited 0, but a case failed: x"),
        ("hello\n", "the test exited 0 without printing TAP"),
        ("", "the test exited 0 without printing TAP"),
        ("TAP version 5\n1..1\nok\n", None),
        ("1..99999999999999\nok\n", "no plan"),
    ],
)
def test_tap_that_breaks_its_own_promise(text, problem):
    found = tap(text).problem
    assert found is None if problem is None else problem in (found or "")


def test_tap_skipped_as_a_whole():
    report = tap("1..0 # SKIP no compiler\n")
    assert (report.problem, outcomes(report), report.cases[0].message) == (
        None,
        [("(all)", S)],
        "no compiler",
    )
    assert tap("", exit_code=77).problem is None


def test_tap_bytes_of_any_kind_are_cleaned():
    assert outcomes(tap(b"1..1\nok 1 - a\x1b[31m\xff\x00\n")) == [("a\ufffd[31m\ufffd\ufffd", P)]


TOKENS = [
    b"ok",
    b"not ok",
    b" 1",
    b"- x",
    b"# TODO",
    b"# SKIP",
    b"1..",
    b"3",
    b"\n",
    b"Bail out!",
    b"9" * 5000,
]
TAGS = b"<testsuite> </testsuite> <testcase> </testcase> <failure/> &#0; <!-- --> <? ?> <![CDATA[ ]]> <!".split()


@settings(max_examples=200)
@given(st.lists(st.sampled_from(TOKENS) | st.binary(max_size=5)).map(b"".join), st.sampled_from([0, 1, 2, None]))
def test_no_output_whatever_raises(data, exit_code):
    report = tap(data, exit_code)
    assert len(report.cases) <= data.count(b"ok") + 1


@settings(max_examples=200)
@given(st.lists(st.sampled_from(TAGS) | st.binary(max_size=5)).map(b"".join))
def test_no_junit_whatever_raises_anything_but_its_own_error(data):
    try:
        report = read_junit(data, lambda _class, name: name)
    except ResultsError:
        return
    assert report.total >= len(report.cases)

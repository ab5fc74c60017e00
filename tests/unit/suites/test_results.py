import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model.outcomes import CaseOutcome
from orchestrator.model.suites import ResultsFormat, Runner, Suite
from orchestrator.model.tests import Command
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
        (BOMB.encode("utf-16"), "DOCTYPE"),
        (BOMB.encode("utf-16-le"), "DOCTYPE"),
        (BOMB.encode("utf-16-be"), "DOCTYPE"),
        (BOMB.encode("utf-32"), "DOCTYPE"),
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


# ------------------------------------------------------------------ JUnit: encodings (CASES A9)


ACCENTS = "<testsuite><testcase name='Größe über 3\u00a0€ übrig'/></testsuite>"


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("windows-1252", "cp1252"),
        ("iso-8859-15", "iso-8859-15"),
        ("ISO-8859-15", "iso-8859-15"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
        ("UTF-16", "utf-16-be"),
        ("utf-16le", "utf-16-le"),
        ("utf-32", "utf-32"),
        ("utf-32", "utf-32-be"),
        ("utf-8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        # the bytes are believed, not the declaration: .NET writes UTF-8 under utf-16
        ("utf-16", "utf-8"),
        ("utf-8", "utf-16"),
        ("iso-8859-1", "utf-8-sig"),
        ("us-ascii", "utf-8"),
    ],
)
def test_the_declared_encoding_is_read(tmp_path, declared, written):
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{ACCENTS}'
    assert outcomes(junit(tmp_path, text.encode(written))) == [("Größe über 3\u00a0€ übrig", P)]


def test_latin_1_is_read_and_text_without_a_declaration_is_utf_8(tmp_path):
    text = "<testsuite><testcase name='naïve'/></testsuite>"
    head = "<?xml version='1.0' encoding='iso-8859-1' standalone='yes' ?>"
    assert outcomes(junit(tmp_path, (head + text).encode("latin-1"))) == [("naïve", P)]
    assert outcomes(junit(tmp_path, text.encode())) == [("naïve", P)]
    assert outcomes(junit(tmp_path, text.encode("latin-1"))) == [("na\ufffdve", P)]


@pytest.mark.parametrize(
    "name", ["zlib", "bz2", "base64", "utf-7", "unicode_escape", "idna", "punycode", "x" * 30]
)
def test_an_encoding_that_unpacks_or_is_unknown_is_a_problem(tmp_path, name):
    text = f'<?xml version="1.0" encoding="{name}"?><testsuite><testcase name="a"/></testsuite>'
    report = junit(tmp_path, text)
    assert report.cases == ()
    assert f"declares the encoding '{name}'" in (report.problem or "")


# ------------------------------------------------------------------ JUnit: skipped, to do, tried again (CASES A6)


NODE_TODO = """<testsuites>
<testcase name="later" time="0.001636" classname="test" failure="falsy">
<skipped type="todo" message="not yet"/><failure message="falsy">[Error]</failure></testcase>
<testcase name="todo passes" classname="test"><skipped type="todo" message="true"/></testcase>
<testcase name="skipped"><skipped type="skipped" message="no net # here"/></testcase></testsuites>"""
CTEST = """<testsuite name="(empty)" tests="5" failures="1" disabled="1" skipped="2">
<testcase name="fails" status="fail"><failure message=""/></testcase>
<testcase name="missing" status="notrun"><skipped message="Unable to find executable"/></testcase>
<testcase name="skips" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
<testcase name="dis" status="disabled"><system-out>Disabled</system-out></testcase>
<testcase name="pass" status="run"/></testsuite>"""
SUREFIRE = """<testsuite name="A" tests="3" failures="1">
<testcase name="flaky" classname="A"><flakyFailure message="m" type="E"><stackTrace>s</stackTrace></flakyFailure>
<flakyError type="E"/></testcase>
<testcase name="failed" classname="A"><failure message="m" type="E">s</failure>
<rerunFailure message="m" type="E"/><rerunError type="E"/></testcase>
<testcase name="errors" classname="A"><error message="e" type="E"/><rerunError type="E"/></testcase></testsuite>"""


@pytest.mark.parametrize(
    ("text", "exit_code", "expected"),
    [
        (NODE_TODO, 0, [("test::later", S), ("test::todo passes", S), ("skipped", S)]),
        (CTEST, 8, [("fails", F), ("missing", S), ("skips", S), ("dis", S), ("pass", P)]),
        (SUREFIRE, 1, [("A::flaky", P), ("A::failed", F), ("A::errors", E)]),
        # unittest-xml-reporting, pytest
        (
            '<testsuite><testcase name="a"><skipped type="XFAIL" message="m"/></testcase></testsuite>',
            0,
            [("a", X)],
        ),
        (
            (
                '<testsuite><testcase name="a"><skipped/><error message="in its teardown"/></testcase>'
                '<testcase name="b"><skipped type="todo"/><error message="broken"/></testcase>'
                '<testcase name="c"><skipped/><failure message="m"/></testcase>'
                '<testcase name="d"><rerunFailure message="again"/></testcase>'
                '<testcase name="e" status="failed"/></testsuite>'
            ),
            1,
            [("a", E), ("b", E), ("c", F), ("d", F), ("e", F)],
        ),
    ],
    ids=["node", "ctest", "surefire", "unittest", "failed"],
)
def test_cases_are_what_their_runner_says(tmp_path, text, exit_code, expected):
    report = junit(tmp_path, text, exit_code=exit_code)
    assert (outcomes(report), report.problem) == (expected, None)


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
    """A test that writes a report like pytest's and ends the process is not believed."""
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


PERL = r"""ok 1 - parses \# TODO comments
ok 2 - UserTest\#test_name
ok 3 - fixes issue \#12 for good
ok 4 - C:\new\dir
not ok 5 - later # TODO not yet
#   Failed (TODO) test 'later'
ok 6 # skip no net
# Subtest: inner
    1..1
    ok 1 - in \# SKIP
ok 7 - inner
not ok 8 # TODO & SKIP ts
1..8
"""
NODE = r"""TAP version 13
# Subtest: parses \# TODO comments
not ok 1 - parses \# TODO comments
  ---
  duration_ms: 12.7
  location: 'a.test.mjs:2:1'
  error: |-
    ok 2 - of the message
    1..7
  ...
# Subtest: C:\\new \\\# x
ok 2 - C:\\new \\\# x
ok 3 - todo passes # TODO
ok 4 - skipped # SKIP no net \# here
    # Subtest: inner
    not ok 1 - inner todo # TODO
    1..1
ok 5 - group
1..5
# pass 3
"""
BATS = (
    "1..3\nok 1 it works in 12ms\nok 2 other # skip (no docker)\nnot ok 3 breaks on #5\n# (in test file a.bats)\n"
)
KSELFTEST = "TAP version 13\n1..2\nok 1 selftests: net: a.sh # SKIP\nnot ok 2 selftests: net: b.sh # exit=1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PERL, [
            ("parses # TODO comments", P), ("UserTest#test_name", P), ("fixes issue #12 for good", P),
            (r"C:\new\dir", P), ("later", X), ("6", S), ("inner", P), ("8", X),
        ]),
        (NODE, [
            ("parses # TODO comments", F), (r"C:\new \# x", P), ("todo passes", P), ("skipped", S), ("group", P),
        ]),
        (BATS, [("it works in 12ms", P), ("other", S), ("breaks on #5", F)]),
        (KSELFTEST, [("selftests: net: a.sh", S), ("selftests: net: b.sh # exit=1", F)]),
    ],
    ids=["Test::More", "node --test", "bats", "kselftest"],
)  # fmt: skip
def test_tap_as_runners_write_it(text, expected):
    report = tap(text, exit_code=1)
    assert (outcomes(report), report.problem) == (expected, None)


@pytest.mark.parametrize(
    ("line", "name", "outcome", "message"),
    [
        # CASES A4
        (r"not ok 1 - parses \# TODO comments", "parses # TODO comments", F, ""),
        (r"not ok 1 - ends in a backslash \\# TODO", "ends in a backslash \\# TODO", F, ""),
        (r"not ok 1 - a backslash \\ # TODO", "a backslash \\", X, ""),
        (r"not ok 1 - both \\\# TODO", r"both \# TODO", F, ""),
        (r"not ok 1 - first \# TODO, then # TODO really \# 7", "first # TODO, then", X, "really # 7"),
        # CASES A5
        ("ok 1 - UserTest#test_name", "UserTest#test_name", P, ""),
        ("ok 1 - fixes issue #12 for good", "fixes issue #12 for good", P, ""),
        ("ok 1 - a # skipping is fun", "a # skipping is fun", P, ""),
        ("ok 1 - a # SKIPPED", "a # SKIPPED", P, ""),
        ("not ok 1 - a # TODOS", "a # TODOS", F, ""),
        ("not ok 1 - a # todo-list", "a # todo-list", F, ""),
        ("not ok 1 - a# TODO", "a# TODO", F, ""),
        ("not ok 1 - a ## TODO", "a ## TODO", F, ""),
        ("not ok 1 - a # not # TODO yet", "a # not", X, "yet"),
        # a directive all the same
        ("not ok 1 - a # TODO", "a", X, ""),
        ("not ok 1 - a\t#\ttodo\twhy", "a", X, "why"),
        ("not ok 1 - a #TODO why", "a", X, "why"),
        ("ok 1 - a # SKIP: why", "a", S, "why"),
        ("ok # SKIP", "1", S, ""),
        ("ok 1 # SKIP why", "1", S, "why"),
        # numbers
        ("ok 2nd try", "2nd try", P, ""),
        ("ok 1 2 - two", "2 - two", P, ""),
        ("ok 20261130184146", "20261130184146", P, ""),
        ("ok - - a", "- a", P, ""),
    ],
)
def test_a_tap_line(line, name, outcome, message):
    report = tap(f"1..1\n{line}\n", exit_code=1)
    assert report.problem is None
    assert [(case.name, case.outcome, case.message) for case in report.cases] == [(name, outcome, message)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1..1\nok 1\nbail out! in small letters\n", "bailed out: in small letters"),
        ("1..2abc\nok\n", "no plan"),
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
    assert tap("1..0 # Skipped: on Windows\n").cases[0].message == "on Windows"


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

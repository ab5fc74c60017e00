import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.outcomes import CaseOutcome, CaseResult
from orchestrator.reports.formats import github
from tests.unit.reports.conftest import RUN, attempt, of, result, told, violation

# How the runner reads a line (actions/runner, ActionCommand.TryParseV2 and its unescaping tables).
PROPERTY = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}
DATA = {"%0D": "\r", "%0A": "\n", "%25": "%"}


def unescaped(text, table):
    for code, char in table.items():
        text = text.replace(code, char)
    return text


def read(line):
    assert "\n" not in line
    assert "\r" not in line
    assert line.startswith("::")
    end = line.index("::", 2)
    head, message = line[2:end], line[end + 2 :]
    name, _, words = head.partition(" ")
    properties = dict(word.split("=", 1) for word in words.split(",")) if words else {}
    return name, {k: unescaped(v, PROPERTY) for k, v in properties.items()}, unescaped(message, DATA)


def lines(*results, limit=github.STEP_LIMIT):
    return told(github.Annotations(), *results).lines(RUN, limit=limit)


TRICKY = st.text() | st.text("%0A5D2C3:,=\r\n")


@given(TRICKY, TRICKY, TRICKY.filter(bool))
def test_the_runner_reads_back_what_was_written_whatever_it_is(title, message, path):
    annotation = github.Annotation(level="error", path=path, line=7, title=title, message=message)
    name, properties, text = read(github.command(annotation))
    assert (name, text) == ("error", message)
    assert properties == {"file": path, "line": "7", "title": title}


HOSTILE = st.text(st.sampled_from("%0Da\r\n,:=[]#! \u2028\ud800"), min_size=1, max_size=30)


@given(HOSTILE, HOSTILE)
def test_no_test_can_make_a_second_command(name, message):
    for line in lines(result(name, "failed", message=message)):
        line.encode()
        command, properties, _ = read(line)
        assert command == "error"
        assert set(properties) <= {"file", "line", "title"}
        assert len(line.splitlines()) == 1


def test_a_failure_has_its_file_its_remarks_and_how_to_run_it_again():
    ((name, properties, message),) = map(read, lines(result("test/test_a.py", "failed", message="exit code 1")))
    assert name == "error"
    assert properties == {"file": "test/test_a.py", "line": "1", "title": "FAIL test/test_a.py"}
    assert message == "exit code 1\nreproduce: orch repro b0b3:test/test_a.py"


def test_the_line_is_that_of_the_case_that_failed():
    case = CaseResult(
        name="test_x", outcome=CaseOutcome.FAILED, message="assert 1 == 2\n\ntest/test_a.py:41: AssertionError"
    )
    (line,) = lines(result("test/test_a.py", "failed", cases=(case,)))
    assert read(line)[1]["line"] == "41"


@pytest.mark.parametrize("path", ["/etc/passwd", "../../other.py", "a/../../b.py"])
def test_a_path_outside_the_project_is_beside_no_file(path):
    (line,) = lines(result(path, "failed"))
    assert "file" not in read(line)[1]


def test_worst_first_and_the_last_says_how_many_more():
    results = [result(f"b{n:02}.py", violations=(violation(severity="warning"),)) for n in range(20)]
    results += [result("f.py", "failed"), result("c.py", "crashed", signal=11), result("o.py", "oom")]
    found = [read(line) for line in lines(*results)]
    assert len(found) == 10
    assert [t["title"] for _, t, _ in found[:4]] == ["CRASH c.py", "OOM o.py", "FAIL f.py", "PASS b00.py"]
    assert [level for level, _, _ in found] == ["error"] * 3 + ["warning"] * 7
    assert found[-1][1]["title"] == "+14 more"


def test_exactly_ten_need_no_more_line():
    titles = [read(line)[1]["title"] for line in lines(*(result(f"{n}.py", "failed") for n in range(10)))]
    assert titles == [f"FAIL {n}.py" for n in range(10)]


def test_failures_hidden_behind_the_limit_are_an_error_still():
    found = [read(line) for line in lines(*(result(f"{n:02}.py", "failed") for n in range(30)), limit=3)]
    assert [level for level, _, _ in found] == ["error"] * 3
    assert found[-1][1]["title"] == "+28 more"


def test_what_simply_passed_and_mere_notices_are_not_annotated():
    assert lines(result("a.py"), result("b.py", violations=(violation(severity="notice"),))) == []


def test_no_room_is_no_line():
    assert lines(result("a.py", "failed"), limit=0) == []
    assert lines(result("a.py", "failed"), limit=-3) == []


def test_a_flaky_pass_is_a_warning():
    flaky = of(attempt("a.py", "failed"), attempt("a.py", attempt=2), flaky=True)
    ((level, properties, _),) = map(read, lines(flaky))
    assert (level, properties["title"]) == ("warning", "FLAKY a.py")


def test_a_long_story_is_cut():
    message = "\n".join(f"line {n} " + "x" * 10_000 for n in range(1000))
    (line,) = lines(result("a.py", "failed", message=message))
    assert len(line) < 10_000
    assert re.search(r"more lines", line)

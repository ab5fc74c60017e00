"""What the real pytest writes, compared with the node ids of a plain run."""

import json
import os
import subprocess
import sys

import pytest

from orchestrator.model.outcomes import CaseOutcome
from orchestrator.model.suites import ResultsFormat, Runner, Suite
from orchestrator.suites.pytest import build_command, case_name, lacks_case, report_name
from orchestrator.suites.results import read_cases

SUITE = Suite(name="u", match=("**/test_*.py",), runner=Runner.PYTEST)

TESTS = """
import os, sys, unittest, pytest

def test_pass(record_property): record_property("a", 1)   # warns under xunit2
def test_fail(): assert 0, "x" * 3
@pytest.mark.skip(reason="why")
def test_skip(): pass
@pytest.mark.xfail(reason="bug 7")
def test_xfail(): assert 0
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail(strict=True)
def test_strict(): pass
@pytest.fixture
def broken_setup(): raise RuntimeError("setup")
@pytest.fixture
def broken_teardown():
    yield
    raise RuntimeError("teardown")
def test_setup(broken_setup): pass
def test_teardown(broken_teardown): pass
def test_both(broken_teardown): assert 0
@pytest.mark.parametrize("x", ["a b", "a::b", "c[d]", "e.f", "g/h.py", "\\x1b[31m", "\\x00"])
def test_names(x): pass
@pytest.mark.parametrize("x", ["ünï", "", "-", "a\\nb"])
def test_ids(x): pass
@pytest.mark.parametrize("x", ["<&>", "x" * 300])
def test_params(x): pass
@pytest.mark.parametrize("x", ["ok", "ko"])
def test_out(x, capsys):
    print("\\x1b[31m\\x00]]>")
    assert x == "ok", "\\x1b\\x00<&]]>"
class TestA:
    def test_m(self): pass
    class TestB:
        @pytest.mark.parametrize("y", ["p.q::r"])
        def test_n(self, y): pass
class Checks(unittest.TestCase):
    def test_u(self): pass
    @unittest.expectedFailure
    def test_e(self): self.fail()
    @unittest.skip("no")
    def test_s(self): pass
    def test_sub(self):
        for n in range(3):
            with self.subTest(n=n): assert n < 3
def test_ends(): assert "PYTEST_CURRENT_TEST" in os.environ
"""

# A plugin that writes what the plain run saw: node id -> its outcome, the worst phase deciding.
PLAIN = """
import json
seen = {}
def pytest_runtest_logreport(report):
    old = seen.get(report.nodeid)
    if type(report).__name__ == "SubtestReport" and report.passed:
        return
    if report.failed:
        new = "failed" if report.when == "call" or old == "failed" else "error"
    elif report.skipped:
        new = "xfailed" if hasattr(report, "wasxfail") else "skipped"
    elif report.when == "call":
        new = "passed"
    else:
        return
    seen[report.nodeid] = old if old == "failed" else new
def pytest_sessionfinish(session):
    with open("plain.json", "w") as file:
        json.dump(seen, file)
"""


def run(folder, argv, output_dir):
    argv = [word.replace("{output_dir}", str(output_dir)) for word in argv]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env.pop("PYTEST_ADDOPTS", None)
    return subprocess.run([sys.executable, *argv[1:]], cwd=folder, env=env, capture_output=True, check=False)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "tests/unit.v2").mkdir(parents=True)
    (folder / "tests/unit.v2/test_all.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return folder


def test_every_case_of_a_plain_run_is_there_with_its_outcome(project, tmp_path):
    (project / "plain.py").write_text(PLAIN)
    plain = run(project, ["python3", "-m", "pytest", "-p", "plain", "tests/unit.v2/test_all.py"], tmp_path)
    assert plain.returncode == 1, plain.stdout
    expected = json.loads((project / "plain.json").read_text())
    path = "tests/unit.v2/test_all.py"
    command = build_command(SUITE, path, None, {})
    ours = run(project, command.argv, tmp_path)
    report = read_cases(command, tmp_path, ours.stdout, ours.returncode)
    assert report.problem is None
    assert {f"{path}::{case.name}": case.outcome.value for case in report.cases} == expected
    assert len(report.cases) == len(expected) > 30
    assert {case.outcome for case in report.cases} == set(CaseOutcome)


def test_names_hold_where_pytest_puts_its_root_elsewhere(project, tmp_path):
    (project / "pytest.ini").rename(project / "tests/pytest.ini")
    path = "tests/unit.v2/test_all.py"
    command = build_command(SUITE, path, "TestA::TestB", {})
    ours = run(project, command.argv, tmp_path)
    report = read_cases(command, tmp_path, ours.stdout, ours.returncode)
    assert (report.problem, [case.name for case in report.cases]) == (None, ["TestA::TestB::test_n[p.q::r]"])


@pytest.mark.parametrize("name", ["-x.py", "@a b.py", "ünï\nline.py"])
def test_odd_file_names_reach_pytest(project, tmp_path, name):
    (project / name).write_text("class TestA:\n  def test_a(self): pass\n")
    command = build_command(SUITE, name, None, {})
    ours = run(project, command.argv, tmp_path)
    report = read_cases(command, tmp_path, ours.stdout, ours.returncode)
    assert (ours.returncode, report.problem) == (0, None)
    assert [case.name for case in report.cases] == ["TestA::test_a"]


def attempt(project, tmp_path, text, *extra):
    (project / "test_x.py").write_text(text)
    suite = Suite(name="u", match=(), runner=Runner.PYTEST, command=extra)
    command = build_command(suite, "test_x.py", None, {})
    ours = run(project, command.argv, tmp_path)
    return ours.returncode, read_cases(command, tmp_path, ours.stdout, ours.returncode)


def test_a_file_that_cannot_be_imported_is_one_error_of_the_file(project, tmp_path):
    code, report = attempt(project, tmp_path, "import nothing_like_this\n")
    assert (code, report.problem) == (2, None)
    assert [(case.name, case.outcome) for case in report.cases] == [("test_x.py", CaseOutcome.ERROR)]


def test_nothing_collected_is_skipped_and_no_problem(project, tmp_path):
    code, report = attempt(project, tmp_path, "def test_a(): pass\n", "-k", "nothing")
    command = build_command(SUITE, "test_x.py", None, {})
    assert (code in command.skip_exit_codes, report.problem, report.cases) == (True, None, ())


def test_the_process_ended_in_the_middle_is_no_pass(project, tmp_path):
    code, report = attempt(project, tmp_path, "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\n")
    assert (code, report.problem) == (0, "the runner exited 0 without writing its results")


def test_a_run_ended_early_with_exit_code_0_is_no_pass(project, tmp_path):
    text = "import pytest\ndef test_a(): pass\ndef test_b(): pytest.exit('enough', 0)\ndef test_c(): assert 0\n"
    code, report = attempt(project, tmp_path, text)
    assert (code, [case.name for case in report.cases]) == (0, ["test_a"])
    assert "ended early" in (report.problem or "")


def test_subtests_that_only_the_header_counts_are_no_shortfall(project, tmp_path):
    text = "def test_a(subtests):\n  for n in range(3):\n    with subtests.test(n=n): assert n < 3\n"
    code, report = attempt(project, tmp_path, text)
    assert (code, report.problem, [case.name for case in report.cases]) == (0, None, ["test_a"])


def test_a_report_forged_from_inside_is_no_pass(project, tmp_path):
    forged = '<testsuite name="pytest" tests="1"><testcase classname="test_x" name="test_a"/></testsuite>'
    write = f"open({str(tmp_path / 'junit.xml')!r}, 'w').write({forged!r})"
    text = f"import os\ndef test_a():\n  {write}\n  os._exit(0)\n"
    code, report = attempt(project, tmp_path, text)
    assert code == 0
    assert "not written by the pytest" in (report.problem or "")


def test_the_users_own_report_options_do_not_displace_ours(project, tmp_path):
    extra = (
        "--junitxml=elsewhere.xml",
        "-o",
        "junit_family=xunit2",
        "-o",
        "junit_suite_name=mine",
        "--junitprefix=p.q",
    )
    code, report = attempt(project, tmp_path, "class TestA:\n  def test_a(self): pass\n", *extra)
    assert (code, report.problem, [case.name for case in report.cases]) == (0, None, ["TestA::test_a"])


@pytest.mark.parametrize(
    ("path", "classname", "name", "expected"),
    [
        ("a/test_b.py", "a.test_b", "test_c[x]", "test_c[x]"),
        ("a/test_b.py", "a.test_b.TestC", "test_d", "TestC::test_d"),
        ("./a/test_b.py", "test_b.TestC.TestD", "test_d", "TestC::TestD::test_d"),
        ("a/test_b.py", "above.a.test_b.TestC", "test_d", "TestC::test_d"),
        ("a/test_b.py::TestC", "a.test_b.TestC", "test_d", "TestC::test_d"),
        ("a/test_b.py", "", "a.test_b", "a/test_b.py"),
        ("a/test_b.py", "", "test_b", "a/test_b.py"),
        ("a/test_b.py", "a.test_bc", "test_d", "a.test_bc::test_d"),
        ("a/mod.txt", "a.mod.txt", "mod.txt", "mod.txt"),
        ("test_b.py", "mine", "own", "mine::own"),
    ],
)
def test_two_names_become_what_follows_the_file(path, classname, name, expected):
    assert case_name(("pytest", path), classname, name) == expected


def test_other_results_than_junit_leave_pytests_report_out():
    suite = Suite(name="u", match=(), runner=Runner.PYTEST, results=ResultsFormat.EXIT_CODE, command=("-q",))
    command = build_command(suite, "test_a.py", None, {})
    assert command.argv == ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_a.py")
    assert (report_name(command.argv), command.results_file) == (None, None)


@pytest.mark.parametrize(
    ("case", "code", "stderr", "lacks"),
    [
        ("nocase", 4, b"\nERROR: not found: /work/test_a.py::nocase\n(no name ...)\n", True),
        ("test_a", 4, b"ERROR: usage: pytest [options]\n", False),
        ("test_a", 1, b"ERROR: not found: x\n", False),
        (None, 4, b"ERROR: not found: /work/test_a.py\n", False),
    ],
)
def test_that_a_case_does_not_exist_is_for_pytest_to_say(case, code, stderr, lacks):
    assert lacks_case(case, code, stderr) is lacks

import os
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.errors import NoTestsError, UsageError
from orchestrator.model.suites import Granularity, ResultsFormat, Runner, Suite
from orchestrator.suites.discover import discover
from orchestrator.suites.walk import MOST_LOOKED_AT

UNIT = Suite(name="unit", match=("test/**/test_*.py",), runner=Runner.PYTEST)
SHELL = Suite(name="shell", match=("test/**/*.test.sh",), runner=Runner.SHELL, profile="slow")


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def notices():
    return []


def write(root: Path, *paths: str, text: str = "def test_a(): pass\n") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def ids(tests):
    return [str(test.id) for test in tests]


def test_all_suites_of_the_project_sorted_and_pruned(root):
    write(root, "test/b/test_b.py", "test/test_a.py", "test/x.test.sh", "test/helper.py", "other/test_z.py")
    for pruned in (".git", ".orch", "node_modules", ".venv", "__pycache__"):
        write(root, f"test/{pruned}/test_no.py")
    tests = discover([UNIT, SHELL], [], root)
    assert ids(tests) == ["test/b/test_b.py", "test/test_a.py", "test/x.test.sh"]
    assert [test.suite for test in tests] == ["unit", "unit", "shell"]
    assert [test.suite_profile for test in tests] == [None, None, "slow"]
    assert tests[0].size_bytes == len("def test_a(): pass\n")
    assert discover([UNIT, SHELL], [], root) == tests


def test_the_first_suite_that_matches_wins_unless_it_excludes(root):
    write(root, "test/test_a.py", "test/legacy/test_b.py")
    first = Suite(name="first", match=("test/**",), exclude=("test/legacy/**",), runner=Runner.PYTEST)
    assert [test.suite for test in discover([first, UNIT], [], root)] == ["unit", "first"]


def test_paths_are_files_folders_and_cases_relative_to_the_working_directory(root, monkeypatch):
    write(root, "test/a/test_a.py", "test/a/test_b.py", "test/c/test_c.py")
    monkeypatch.chdir(root / "test")
    assert ids(discover([UNIT], ["a"], root)) == ["test/a/test_a.py", "test/a/test_b.py"]
    assert ids(discover([UNIT], ["../test/c/test_c.py", str(root / "test/c")], root)) == ["test/c/test_c.py"]
    write(root, "test/c/test_c.py", text="def test_a(): pass\nclass TestX:\n    def test_y(self, p): pass\n")
    case = "c/test_c.py::TestX::test_y[a::b c]"
    assert ids(discover([UNIT], [case, "a/test_a.py"], root)) == ["test/a/test_a.py", f"test/{case}"]
    assert ids(discover([UNIT], ["c/test_c.py::test_a", "c"], root)) == ["test/c/test_c.py"]  # the file has it


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("test/none.py", "does not exist"),
        ("test/none.py::test_a", "does not exist"),
        ("test/a\0b", "does not exist"),
        ("..", "outside the project"),
        ("/etc/passwd", "outside the project"),
        ("test/escape", "outside the project"),
        ("test/test_escape.py", "outside the project"),
        ("test/test_dangling.py", "a link whose target does not exist"),
        ("test/pipe", "neither a file nor a folder"),
        ("test/helper.py", "matches no suite"),
        ("test/test_{output_dir}.py", "cannot run: their names contain"),
        (os.fsdecode(b"test/test_\xff.py"), "cannot run: their names are not UTF-8"),
    ],
)
def test_what_is_asked_for_by_name_and_cannot_run_is_exit_4(root, typed, why):
    """CASES A3 and A8; also if other tests that were named can run."""
    write(root, "test/test_a.py", "test/helper.py", "test/test_{output_dir}.py")
    with open(os.fsencode(root) + b"/test/test_\xff.py", "w"):  # noqa: PTH123 - a name in bytes
        pass
    (root / "test/escape").symlink_to("/usr")
    (root / "test/test_escape.py").symlink_to("/etc/passwd")
    (root / "test/test_dangling.py").symlink_to("nowhere")
    os.mkfifo(root / "test/pipe")
    with pytest.raises(NoTestsError, match=why) as caught:
        discover([UNIT, SHELL], ["test/test_a.py", typed], root)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("test::test_a", "a folder has no cases"),
        ("test/test_a.py::", "nothing follows"),
        ("test/a.test.sh::x", "has no cases"),
    ],
)
def test_impossible_cases_are_refused(root, typed, why):
    write(root, "test/test_a.py", "test/a.test.sh")
    with pytest.raises(UsageError, match=why):
        discover([UNIT, SHELL], [typed], root)


INHERITING = """
from base import Base
class TestC(Base):
    def test_own(self): pass
class TestPlain:
    def test_own(self): pass
def test_p(): pass
"""


@pytest.mark.parametrize(
    ("case", "possible"),
    [
        ("test_p", True),
        ("test_p[1]", True),
        ("TestC::test_inherited", True),
        ("TestPlain", True),
        ("TestPlain::test_own", True),
        ("Base", True),
        ("nope", False),
        ("TestNone", False),
        ("TestPlain::test_none", False),
        ("TestNone::test_x", False),
    ],
)
def test_a_case_that_the_file_cannot_have_is_exit_4(root, case, possible):
    write(root, "test/test_a.py", "test/test_b.py", "test/test_c.py")
    (root / "test/test_a.py").write_text(INHERITING)
    (root / "test/test_b.py").write_text(INHERITING + "scenarios('x.feature')\n")
    (root / "test/test_c.py").write_text(INHERITING + "import test_more\n")
    if possible:
        assert ids(discover([UNIT], [f"test/test_a.py::{case}"], root)) == [f"test/test_a.py::{case}"]
    else:
        with pytest.raises(NoTestsError, match="there is no such case in the file"):
            discover([UNIT], [f"test/test_a.py::{case}"], root)
    for unknown in ("b", "c"):  # what these files define is only known at run time
        assert ids(discover([UNIT], [f"test/test_{unknown}.py::{case}"], root))


def found(suites, paths, root):
    """Return (ids, left out, notices)."""
    left, notices = [], []
    tests = discover(suites, paths, root, notice=notices.append, left_out=left.append)
    return ids(tests), [(one.path, one.reason.name) for one in left], notices


def test_links_out_of_the_project_are_left_out_and_said(root, tmp_path):
    """CASES A3: links to a file, to folders with and without tests, and to one with more entries than are
    examined.
    """
    write(tmp_path, "out9/test_bad.py", "out9/deep/test_worse.py", "out9/.git/test_no.py", "data/table.csv")
    write(tmp_path, *(f"huge/{number}" for number in range(MOST_LOOKED_AT + 1)))
    write(root, "test/test_a.py")
    (root / "test/test_bad.py").symlink_to("../../out9/test_bad.py")
    (root / "test/more").symlink_to("../../out9")
    (root / "test/data").symlink_to("../../data")
    (root / "test/huge").symlink_to("../../huge")
    (root / "test/table.csv").symlink_to("../../data/table.csv")
    (root / "test/test_gone.py").symlink_to("../../out9/gone.py")
    left = ["test/huge/", "test/more/deep/test_worse.py", "test/more/test_bad.py", "test/test_bad.py"]
    left.append("test/test_gone.py")
    assert found([UNIT], [], root) == (
        ["test/test_a.py"],
        [(path, "OUTSIDE") for path in left],
        [f"5 not run: they lead out of the project: {', '.join(map(repr, left))}"],
    )
    assert found([UNIT], ["test/test_a.py"], root) == (["test/test_a.py"], [], [])
    less = Suite(
        name="u", match=UNIT.match, exclude=("test/**/*_bad.py", "test/**/*_gone.py"), runner=Runner.PYTEST
    )
    assert [path for path, _ in found([less], [], root)[1]] == ["test/huge/", "test/more/deep/test_worse.py"]


def test_links_that_are_not_followed_are_left_out_unless_their_tests_are_found_anyway(root):
    write(root, "a/test_a.py", "b/test_b.py", "test/test_c.py")
    (root / "test/a").symlink_to("../a")
    (root / "a/b").symlink_to("../b")
    (root / "test/loop").symlink_to(".")
    (root / "b/up").symlink_to("..")
    everything = Suite(name="all", match=("**/test_*.py",), runner=Runner.PYTEST)
    every, left, _ = found([everything], [], root)
    assert (every[:2], left) == (["a/b/test_b.py", "a/test_a.py"], [])
    assert found([everything], ["test"], root)[:2] == (
        ["test/a/test_a.py", "test/test_c.py"],
        [("test/a/b/test_b.py", "BEHIND_LINKS")],
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="root reads every folder and can become somebody who does not")
def test_a_folder_that_cannot_be_read_is_left_out(root):
    write(root, "test/test_a.py", "test/closed/test_b.py")
    (root / "test/closed").chmod(0)
    for folder in (root, *root.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    child = os.fork()
    if child == 0:
        os.setuid(1001)
        wanted = (["test/test_a.py"], [("test/closed/", "UNREADABLE")])
        os._exit(0 if found([UNIT], [], root)[:2] == wanted else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


PATTERNS = "test_*.py check_*.py lib/*_spec.py"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", f"[pytest]\npython_files = {PATTERNS}\n"),
        (".pytest.ini", f"[pytest]\npython_files = {PATTERNS}\n"),
        ("pyproject.toml", f"[tool.pytest.ini_options]\npython_files = {PATTERNS.split()}\n"),
        ("pyproject.toml", f'[tool.pytest.ini_options]\npython_files = "{PATTERNS}"\n'),
        ("tox.ini", "[tox]\nenvlist = %(x)s\n[pytest]\npython_files =\n    " + PATTERNS.replace(" ", "\n    ")),
        ("setup.cfg", f"[metadata]\nname\n[tool:pytest]\npython_files = {PATTERNS}\n"),
    ],
)
def test_what_pytest_would_collect_and_no_suite_does_is_left_out(root, name, text):
    write(root, "test/test_a.py", "test/check_b.py", "test/helper.py", "test/lib/c_spec.py", "test/d_spec.py")
    write(root, "test/old/check_e.py", "test/check_b.txt", "build/check_f.py", "venv/check_g.py")
    write(root, name, text=text)
    suite = Suite(name="u", match=UNIT.match, exclude=("test/old/**",), runner=Runner.PYTEST)
    assert found([suite, SHELL], [], root) == (
        ["test/test_a.py"],
        [("test/check_b.py", "NO_SUITE"), ("test/lib/c_spec.py", "NO_SUITE")],
        ["2 not run: pytest's python_files matches them, no suite does: 'test/check_b.py', 'test/lib/c_spec.py'"],
    )
    assert found([SHELL], [], root) == ([], [], [])


def test_testpaths_and_folders_that_are_not_entered_count(root):
    write(root, "test/test_a.py", "test/check_b.py", "other/check_c.py", "test/slow/check_d.py")
    settings = "python_files = check_*.py\ntestpaths = test/ more\nnorecursedirs = slow\n"
    write(root, "pytest.ini", text=f"[pytest]\n{settings}")
    write(root, "setup.cfg", text="[tool:pytest]\npython_files = *.py\n")
    assert found([UNIT], [], root)[1] == [("test/check_b.py", "NO_SUITE")]
    assert found([UNIT], ["other"], root)[1] == [("other/check_c.py", "NO_SUITE")]
    write(root, "pytest.ini", text="")  # counts all the same
    assert found([UNIT], [], root)[1] == []


def test_links_inside_are_followed_once_and_never_outside(root, tmp_path):
    write(tmp_path, "outside/test_o.py")
    write(root, "real/test_r.py", "test/test_a.py")
    (root / "test/inside").symlink_to("../real")
    (root / "test/file").mkdir()
    (root / "test/file/test_l.py").symlink_to("../../real/test_r.py")
    (root / "test/loop").symlink_to("..")
    (root / "real/back").symlink_to("../test")
    (root / "test/out").symlink_to(tmp_path / "outside")
    (root / "test/test_out.py").symlink_to(tmp_path / "outside/test_o.py")
    (root / "test/test_dangling.py").symlink_to("nowhere")
    everything = Suite(name="all", match=("test/**/test_*.py",), runner=Runner.PYTEST)
    assert ids(discover([everything], [], root)) == [
        "test/file/test_l.py",
        "test/inside/test_r.py",
        "test/test_a.py",
    ]


def test_a_project_reached_through_a_link(root, tmp_path):
    write(root, "test/test_a.py")
    (tmp_path / "link").symlink_to(root)
    assert ids(discover([UNIT], [str(tmp_path / "link/test/test_a.py")], tmp_path / "link")) == ["test/test_a.py"]
    assert ids(discover([UNIT], [str(root / "test")], tmp_path / "link")) == ["test/test_a.py"]


ODD = [
    "-v.test.sh",
    "a b.test.sh",
    "new\nline.test.sh",
    "ünï.test.sh",
    "@x.test.sh",
    "$(id).test.sh",
    "x" * 240 + ".test.sh",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_run_as_they_are(root, name, notices):
    write(root, f"test/{name}", text='[ "$1" = "" ] && echo ran\n')
    (test,) = discover([SHELL], [], root, notice=notices.append)
    assert (test.id.path, notices) == (f"test/{name}", [])
    ran = subprocess.run(test.command.argv, cwd=root, capture_output=True, check=True)
    assert ran.stdout == b"ran\n"


def test_odd_names_at_the_top_are_no_options(root):
    write(root, "-x.sh", text="exit 3\n")
    (test,) = discover([Suite(name="s", match=("*.sh",), runner=Runner.SHELL)], ["-x.sh"], root)
    assert test.command.argv == ("sh", "./-x.sh")


def test_names_that_cannot_travel_are_left_out(root):
    (root / "test").mkdir()
    with open(os.fsencode(root) + b"/test/test_\xff.py", "w") as file:  # noqa: PTH123 - a name in bytes
        file.write("def test_a(): pass\n")
    write(root, "test/test_{output_dir}.py")
    assert found([UNIT], [], root)[:2] == (
        [],
        [("test/test_\\udcff.py", "NOT_UTF8"), ("test/test_{output_dir}.py", "PLACEHOLDER")],
    )


@pytest.mark.parametrize("name", ["test_[1].py", "test_a::b.py"])
def test_names_that_pytest_cannot_be_given_are_said(root, name, notices):
    write(root, f"test/{name}")
    assert ids(discover([UNIT], [f"test/{name}"], root, notice=notices.append)) == [f"test/{name}"]
    assert "pytest cannot be given a path" in notices[0]


def test_hint_and_markers_come_from_the_file(root):
    write(root, "test/test_a.py", text="# orch: profile=slow\nimport pytest\npytestmark = pytest.mark.db\n")
    (test,) = discover([UNIT], [], root)
    assert (test.profile_hint, test.markers) == ("slow", {"db"})


CASES = """
import pytest
pytestmark = pytest.mark.db
@pytest.mark.slow
def test_b(): pass
class TestA:
    def test_a(self): pass
"""


def test_cases_are_tests_where_the_suite_asks_for_it(root, notices):
    write(root, "test/test_a.py", text=CASES)
    write(root, "test/test_star.py", text="from common import *\n")
    suite = Suite(name="c", match=("test/*.py",), runner=Runner.PYTEST, granularity=Granularity.CASE)
    tests = discover([suite], [], root, notice=notices.append)
    assert ids(tests) == ["test/test_a.py::TestA::test_a", "test/test_a.py::test_b", "test/test_star.py"]
    assert [test.markers for test in tests] == [{"db"}, {"db", "slow"}, frozenset()]
    assert tests[0].command.argv[-1] == "test/test_a.py::TestA::test_a"
    assert len(notices) == 1
    assert "'test/test_star.py' stays one test" in notices[0]
    (root / "pytest.ini").write_text("[pytest]\npython_classes = Check\n")
    assert ids(discover([suite], ["test/test_a.py"], root, notice=notices.append)) == ["test/test_a.py"]


def test_a_case_named_by_the_user_has_its_own_markers(root):
    write(root, "test/test_a.py", text=CASES)
    tests = discover([UNIT], ["test/test_a.py::test_b[x]", "test/test_a.py::TestA::test_a"], root)
    assert [test.markers for test in tests] == [{"db"}, {"db", "slow"}]


def test_the_environment_is_the_runners_then_the_hosts_then_the_suites(root):
    write(root, "test/test_a.py")
    suite = Suite(
        name="u", match=UNIT.match, runner=Runner.PYTEST, env={"B": "suite"}, pass_env=("A", "B", "GONE")
    )
    (test,) = discover([suite], [], root, environ={"A": "host", "B": "host", "SECRET": "x"})
    assert test.command.env == {"PYTHONDONTWRITEBYTECODE": "1", "A": "host", "B": "suite"}


def test_a_working_folder_changes_how_the_file_is_named(root):
    write(root, "sub/test/a.sh", "other/b.sh", text="")
    suite = Suite(name="s", match=("**/*.sh",), runner=Runner.SHELL, working_dir="sub")
    commands = [test.command for test in discover([suite], [], root)]
    assert [command.argv for command in commands] == [("sh", "../other/b.sh"), ("sh", "test/a.sh")]
    assert {command.working_dir for command in commands} == {"sub"}


def test_an_executable_with_a_shebang_is_started_by_itself(root):
    write(root, "test/a.test.sh", text="#!/bin/sh\n")
    (root / "test/a.test.sh").chmod(0o755)
    write(root, "test/b.test.sh", text="no shebang\n")
    (root / "test/b.test.sh").chmod(0o755)
    suite = Suite(name="s", match=SHELL.match, runner=Runner.SHELL, command=("--all",), results=ResultsFormat.TAP)
    first, second = discover([suite], [], root)
    assert first.command.argv == ("test/a.test.sh", "--all")
    assert second.command.argv == ("sh", "test/b.test.sh", "--all")
    assert (first.command.results, first.command.results_file) == (ResultsFormat.TAP, None)
    assert first.command.skip_exit_codes == {77}


def test_a_template_is_filled_word_by_word_without_a_shell(root):
    write(root, "test/-a b.spl", text="")
    command = ("simple", "--log={output_dir}/{name}.log", "{test}", "{{x}}", "$HOME")
    suite = Suite(name="spec", match=("test/*.spl",), runner=Runner.COMMAND, command=command)
    (test,) = discover([suite], [], root)
    assert test.command.argv == ("simple", "--log={output_dir}/-a b.log", "test/-a b.spl", "{x}", "$HOME")
    assert test.command.results is ResultsFormat.EXIT_CODE


@pytest.mark.parametrize(
    ("words", "why"),
    [(("run", "{tset}"), "did you mean {test}"), (("run", "${HOME}"), "known are"), ((), "needs a command")],
)
def test_an_impossible_template_is_refused_even_if_nothing_matches(root, words, why):
    suite = Suite(name="spec", match=("nothing",), runner=Runner.COMMAND, command=words)
    with pytest.raises(UsageError, match=why):
        discover([suite], [], root)


def test_ten_thousand_files_take_under_a_second_of_one_core(root):
    text = "# a module\nimport pytest\n\n@pytest.mark.slow\ndef test_a(): pass\n" + "x = 1\n" * 50
    write(root, "module", text=text)
    for folder in range(100):
        place = root / f"test/d{folder}"
        place.mkdir(parents=True)
        for number in range(100):  # links, for making 10,000 files takes longer than finding them
            os.link(root / "module", place / f"test_{number}.py")
    write(root, *(f"node_modules/m{number}/test_x.py" for number in range(100)))
    took = []
    while len(took) < 5 and min(took, default=1) >= 1:  # other work on this machine must not count
        started = time.process_time()
        tests = discover([SHELL, UNIT], [], root)
        took.append(time.process_time() - started)
    assert len(tests) == 10_000
    assert all(test.markers == {"slow"} for test in tests)
    assert min(took) < 1.0

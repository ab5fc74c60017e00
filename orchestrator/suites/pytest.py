"""Build the command of a pytest file or case, and convert JUnit names back to node ids.

`junit_family=xunit1` is used because under xunit2 the fixture `record_property` warns, and a suite that turns
warnings into errors would fail here and pass in a plain run. The suite's name in the report is a word that changes
with every process of orch: a report without it was not written by the pytest that orch started. That detects a
file forged in advance, but not a test that reads pytest's own configuration.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

from orchestrator.model.suites import ResultsFormat, Suite
from orchestrator.model.tests import Command
from orchestrator.suites.arguments import RESULTS_FILE, path_argument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_ENV: Mapping[str, str] = {"PYTHONDONTWRITEBYTECODE": "1"}  # the sources are mounted read-only
SKIP_EXIT_CODES = frozenset({5})
"""The exit code of pytest for "no tests collected"."""

_USAGE_ERROR = 4
_SECRET = secrets.token_bytes(16)
_SUITE_OPTION = "junit_suite_name=orch-"


def build_command(suite: Suite, path: str, case: str | None, env: Mapping[str, str]) -> Command:
    """Return the command of one file, or of one case in it. The suite's `command` words are extra arguments."""
    file = path_argument(suite, path)
    target = file if case is None else f"{file}::{case}"
    results = suite.results or ResultsFormat.JUNIT
    report: tuple[str, ...] = ()
    if results is ResultsFormat.JUNIT:
        word = hashlib.blake2b(target.encode(), key=_SECRET, digest_size=8).hexdigest()
        report = (f"--junitxml={{output_dir}}/{RESULTS_FILE}", "-o", "junit_family=xunit1")
        report += ("-o", f"{_SUITE_OPTION}{word}")
    return Command(
        argv=("python3", "-m", "pytest", *suite.command, "-p", "no:cacheprovider", *report, target),
        working_dir=suite.working_dir,
        env=env,
        results=results,
        results_file=RESULTS_FILE if results is ResultsFormat.JUNIT else None,
        skip_exit_codes=SKIP_EXIT_CODES,
        preload=suite.preload,
    )


def cannot_address(path: str) -> str | None:
    """Return why pytest could not be given this path (it splits arguments at `[` and `::`), or None."""
    for part in ("[", "::"):
        if part in path:
            return f"{path!r} will fail: pytest cannot be given a path with {part!r} in it; rename it"
    return None


def report_name(argv: Sequence[str]) -> str | None:
    """Return the name that the report's suite must have; None if `argv` does not start pytest by
    `build_command`.
    """
    for word in reversed(argv):
        if word.startswith(_SUITE_OPTION):
            return word.removeprefix("junit_suite_name=")
    return None


def ended_early(stdout: bytes) -> bool:
    """Return whether pytest's last lines say that `pytest.exit()` was called with tests left."""
    return b"!!! _pytest.outcomes.Exit: " in stdout


def lacks_case(case: str | None, exit_code: int | None, stderr: bytes) -> bool:
    """Return whether pytest reports that it has no such case, by a usage error and a line that names the case.

    Only pytest can tell, because classes inherit, and parameters and whole cases are created at run time.
    """
    return case is not None and exit_code == _USAGE_ERROR and b"ERROR: not found: " in stderr


def case_name(argv: Sequence[str], classname: str, name: str) -> str:
    """Return the part of a case's node id after the first `::`, from its two names in the report.

    pytest writes `tests/test_a.py::TestX::test_y[p]` as class name `tests.test_a.TestX` and name `test_y[p]`. The
    path is known from `argv`; pytest's root folder may lie above or below orch's, so the longest matching end of
    the path is used. A file that could not be imported has no `::`: its path is the name. Characters that XML
    cannot hold stay as pytest wrote them (`#x1B`).
    """
    path = argv[-1].partition("[")[0].partition("::")[0].removeprefix("./")
    dotted = re.sub(r"\.py$", "", path.replace("/", "."))
    if not classname:
        return path if name in _ends(path, dotted) else name
    for end in _ends(path, dotted):
        if classname == end:
            return name
        if classname.startswith(f"{end}."):
            return _join(classname[len(end) + 1 :], name)
    _, found, rest = f".{classname}.".partition(f".{dotted}.")  # pytest's root folder is above ours
    return _join(rest.rstrip("."), name) if found else f"{classname}::{name}"


def _ends(path: str, dotted: str) -> list[str]:
    """Return the dotted path, and its rests after removing one, two and more leading folders."""
    folders = path.split("/")[:-1]
    starts = [0]
    for folder in folders:
        starts.append(starts[-1] + len(folder) + 1)
    return [dotted[start:] for start in starts]


def _join(classes: str, name: str) -> str:
    return "::".join((*classes.split("."), name)) if classes else name

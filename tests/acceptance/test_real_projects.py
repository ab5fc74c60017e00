"""Three real projects from their source distributions: every case has the outcome of a plain pytest run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.acceptance.conftest import CHECKOUT, Orch

if TYPE_CHECKING:
    from pathlib import Path

# name, PYTHONPATH of a plain run, minimum number of cases
PROJECTS = [
    pytest.param("toolz", ".image/deps", 186, id="toolz"),
    pytest.param("more-itertools", ".image/deps", 664, id="more-itertools"),
    pytest.param("packaging", "src:.image/deps", 27_489, id="packaging", marks=pytest.mark.slow),
]
Cases = Counter[tuple[str, str]]


@pytest.mark.parametrize(("name", "python_path", "cases"), PROJECTS)
def test_same_cases_and_outcomes_as_plain_pytest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, python_path: str, cases: int
) -> None:
    folder = tmp_path / name
    prepare = [sys.executable, str(CHECKOUT / "examples/real/prepare.py"), name, str(folder)]
    prepared = subprocess.run(prepare, capture_output=True, text=True, check=False)
    assert prepared.returncode == 0, prepared.stderr

    report = tmp_path / "plain.xml"
    with start_plain_pytest(folder, python_path, report) as plain:
        done = Orch(project=folder)("run", "--offline-base", "--format", "json", seconds=600)
        output, _ = plain.communicate(timeout=600)
    assert plain.returncode == 0, output[-2000:]

    document = json.loads(done.stdout)
    ours, theirs = cases_of_orch(document), cases_of_plain(report)
    forked = sum(test["slot"]["launch"] == "forked" for test in document["tests"])
    with capsys.disabled():
        print(f"\n{name}: orch {told(ours)}, {forked} of {len(document['tests'])} files forked, not started")
        print(f"{name}: plain pytest {told(theirs)}")
    assert forked == len(document["tests"])
    assert ours == theirs, sorted((ours - theirs) + (theirs - ours))[:20]
    assert ours.total() == cases


def start_plain_pytest(folder: Path, python_path: str, report: Path) -> subprocess.Popen[str]:
    """Start the container's version of pytest in this machine's Python, on the same files."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    env |= {"PYTHONPATH": python_path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-o", "junit_family=xunit1"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def cases_of_orch(document: dict[str, list[dict[str, object]]]) -> Cases:
    """Return (node id, outcome) of every case in the output of `orch run --format json`."""
    return Counter(
        (f"{test['id']}::{case['name']}", case["outcome"]) for test in document["tests"] for case in test["cases"]
    )


def cases_of_plain(report: Path) -> Cases:
    """Return (node id, outcome) of every case in pytest's own JUnit file."""
    return Counter((node_id(case), outcome(case)) for case in ET.parse(report).iter("testcase"))


def node_id(case: ET.Element) -> str:
    """Return the node id `tests/test_a.py::TestX::test_y` of class `tests.test_a.TestX` in `tests/test_a.py`."""
    file = case.attrib["file"]
    module = file.removesuffix(".py").replace("/", ".")
    classes = case.attrib["classname"].removeprefix(module).strip(".")
    return "::".join([file, *filter(None, classes.split(".")), case.attrib["name"]])


def outcome(case: ET.Element) -> str:
    kinds = {child.tag: child.get("type") for child in case}
    if "error" in kinds:
        return "error"
    if "failure" in kinds:
        return "failed"
    if "skipped" in kinds:
        return "xfailed" if kinds["skipped"] == "pytest.xfail" else "skipped"
    return "passed"


def told(cases: Cases) -> str:
    counts = Counter[str]()
    for (_, result), number in cases.items():
        counts[result] += number
    return f"{cases.total()} cases ({', '.join(f'{number} {result}' for result, number in counts.items())})"

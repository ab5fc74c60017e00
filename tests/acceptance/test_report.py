"""Reports of recorded runs: offenders, violations, SARIF, the nightly page, and a recorded test run again."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from orchestrator.model.resources import Resource
from orchestrator.reports.html.details import unpacked
from tests.acceptance.conftest import Orch, docker, run_folders, write_files
from tests.unit.reports.sarif_shape import LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROFILES = """\
version: 1
profiles:
  small: {cpus: 1, memory: 64m, tmpfs: 32m, timeout: 20s}
default_profile: small
suites:
  - {name: shell, match: ["test/**/*.test.sh"], runner: shell}
"""
FILES = {
    "profiles.yaml": PROFILES,
    "test/quiet.test.sh": "exit 0\n",
    "test/leaves one.test.sh": "sleep 600 &\nexit 0\n",
    "test/deep/fails.test.sh": "echo told you\nexit 3\n",
    "test/burns.test.sh": "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done\n",
}


@pytest.fixture(scope="module")
def orch(tmp_path_factory: pytest.TempPathFactory) -> Orch:
    """Return a project that has run three times; no test of this module adds a run."""
    found = Orch(project=write_files(tmp_path_factory.mktemp("reports") / "project", FILES))
    for _ in range(3):
        found("run", "--sarif", "out/orch.sarif", expect=1)
    return found


def test_reports_of_all_kinds(orch: Orch) -> None:
    lines = orch("report").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == sorted(set(FILES) - {"profiles.yaml"})
    assert "4 tests; " in lines[6]

    usage = json.loads(orch("report", "--format", "json", "--resource", "cpu", "--sort", "maximum").stdout)[
        "usage"
    ]
    assert usage[0]["test"] == "test/burns.test.sh"
    assert (usage[0]["count"], len(usage[0]["history"])) == (3, 3)
    assert usage[0]["p50"] <= usage[0]["p95"] <= usage[0]["maximum"] == usage[0]["p99"]

    rows = list(csv.DictReader(io.StringIO(orch("report", "--resource", "all", "--format", "csv").stdout)))
    assert {row["resource"] for row in rows} >= {"memory_peak", "cpu", "duration", "output"}
    assert "pids" not in {row["resource"] for row in rows}, "starting the container took more tasks than any test"

    ranked = json.loads(orch("offenders", "--by", "all", "--format", "json").stdout)
    assert set(ranked) == {"schema", *(f"by_{resource.key}" for resource in Resource)}
    assert ranked["by_cpu"][0]["test"] == "test/burns.test.sh"
    assert orch("report", "--since", "1h", "--run", "latest", expect=2).stderr.startswith(
        "orch: --run cannot be combined"
    )

    # violations: in a window counted once for each test and kind, in one run all of them
    found = json.loads(orch("report", "--violations", "--format", "json").stdout)["violations"]
    leak = next(one for one in found if one["kind"] == "process-leak")
    assert (leak["test"], leak["times"], leak["measured"]) == ("test/leaves one.test.sh", 3, 1)
    assert "sleep 600" in leak["message"]
    one_run = json.loads(orch("report", "--violations", "--run", "latest", "--format", "json").stdout)[
        "violations"
    ]
    assert {one["times"] for one in one_run} == {1}
    assert "process-leak" in orch("report", "--violations", "--format", "markdown").stdout

    # SARIF: the same from a run and from its record, with the same fingerprints in every run
    written = json.loads((orch.project / "out" / "orch.sarif").read_text(encoding="ascii"))
    stored = json.loads(orch("report", "--run", "latest", "--format", "sarif").stdout)
    Draft202012Validator(LOG).validate(written)
    assert written == stored
    window = json.loads(orch("report", "--violations", "--format", "sarif").stdout)["runs"][0]["results"]
    results = written["runs"][0]["results"]
    prints = [one["partialFingerprints"] for one in window]
    assert all(one["partialFingerprints"] in prints for one in results)
    leak = next(one for one in results if one["ruleId"] == "process-leak")
    assert leak["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "test/leaves%20one.test.sh"


def test_a_recorded_test_runs_again_and_leaves_nothing(orch: Orch) -> None:
    runs = json.loads(orch("runs", "list", "--format", "json").stdout)["runs"]
    prefix = runs[-1]["run"][:4]
    folders, containers = run_folders(orch), set(docker("ps", "-aq"))

    printed = orch("repro", f"{prefix}:deep/fails.test.sh").stdout
    assert "--memory 67108864" in printed
    assert "sha256:" in printed
    assert "seccomp=" in printed

    again = orch("repro", f"{prefix}:deep/fails.test.sh", "--run", expect=1).stdout
    table = {line.split()[0]: line.split() for line in again.splitlines()[2:] if line.strip()}
    assert table["outcome"] == ["outcome", "failed", "failed", "same"]
    assert table["exit"] == ["exit", "code", "3", "3", "same"]
    assert table["output"] == ["output", "9B", "9B", "±0", "%"]
    assert "    | told you" in again

    assert "outcome" in orch("repro", "latest:quiet.test.sh", "--run").stdout
    assert orch("repro", "latest:test.sh", expect=2).stderr.startswith("orch: 'test.sh' is the end of several")
    assert json.loads(orch("runs", "list", "--format", "json").stdout)["runs"] == runs
    assert run_folders(orch) == folders
    mine = "label=io.orch.test=test/deep/fails.test.sh"
    assert not set(docker("ps", "-aq", "--filter", mine)) - containers


@pytest.mark.parametrize("words", [("report",), ("offenders", "--by", "all"), ("report", "--violations")])
def test_reports_fit_80_columns(orch: Orch, words: tuple[str, ...]) -> None:
    text = on_a_terminal(orch, *words)
    assert max(map(len, text.splitlines())) <= 80, text
    assert "test/burns.test.sh" in text or "--violations" in words
    assert "\x1b" not in text


def test_a_run_fits_80_columns(make_project: Callable[[Mapping[str, str]], Orch]) -> None:
    text = on_a_terminal(make_project(FILES), "run", "--show-progress", "plain")
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert [line for line in wide if not line.startswith(("reproduce: ", "  full output: "))] == [], text
    assert "\x1b[3" not in text  # NO_COLOR


def on_a_terminal(orch: Orch, *words: str) -> str:
    """Run orch on a terminal of 80 columns and return its output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    env = {name: value for name, value in orch.environment().items() if name != "COLUMNS"}
    with subprocess.Popen(orch.command(*words), cwd=orch.project, env={**env, "TERM": "xterm"}, stdout=theirs):
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # Linux: the other end was closed
            pass
    os.close(ours)
    return said.decode()


def test_the_nightly_report_is_a_file_with_each_tests_page_and_its_output(orch: Orch) -> None:
    done = orch("report", "--since", "24h", "--html", "out/nightly.html", "--prometheus", "out/orch.prom")
    assert done.stdout == ""
    assert done.stderr.startswith("orch: out/nightly.html: 4 tests, ")
    text = (orch.project / "out/nightly.html").read_text(encoding="utf-8")
    assert "1 of 4 tests fails" in text
    details = unpacked(text.split('id="details">')[1].split("<")[0])
    assert [out for out in details["tests"]["out"] if out] == ["told you"]
    assert 'orch_tests{outcome="failed",project="project"} 1.0' in (orch.project / "out/orch.prom").read_text()

    refused = orch("report", "--html", "out/x.html", "--run", "latest", expect=2)
    assert "leave out --run" in refused.stderr
    refused = orch("report", "--html", "profiles.yaml/x.html", expect=2)
    assert "cannot write profiles.yaml/x.html" in refused.stderr

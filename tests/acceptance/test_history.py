"""Commands that read the history: runs, report, offenders, repro, rerun, prune. One project that ran twice."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Orch, run_folders, write_files

FILES = {
    "test/good.test.sh": "#!/bin/sh\nexit 0\n",
    "test/has space & quote's.test.sh": "#!/bin/sh\necho went wrong\nexit 3\n",
    "test/test_cases.py": """import pytest


def test_passes():
    pass


@pytest.mark.skip
def test_skipped():
    pass


@pytest.mark.parametrize("n", [1, 2])
def test_one_of_two_fails(n):
    assert n == 1
""",
    "test/test_large.py": "def test_takes_memory():\n    assert b'x' * 100_000_000\n",
}
ODD_NAME = "test/has space & quote's.test.sh"


@dataclass(frozen=True, kw_only=True)
class Past:
    """A project with two runs."""

    orch: Orch
    first: dict[str, Any]
    rerun: dict[str, Any]

    @property
    def first_id(self) -> str:
        return str(self.first["run"]["id"])


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    orch = Orch(project=write_files(tmp_path_factory.mktemp("history") / "the project", FILES))
    first = json.loads(orch("run", "--format", "json", expect=1).stdout)
    rerun = json.loads(orch("run", "--rerun", "latest", "--format", "json", expect=1).stdout)
    return Past(orch=orch, first=first, rerun=rerun)


def test_rerun_runs_tests_that_did_not_pass(past: Past) -> None:
    assert {test["id"] for test in past.first["tests"]} == set(FILES)
    assert {test["id"] for test in past.rerun["tests"]} == {ODD_NAME, "test/test_cases.py"}


def test_cases_inside_a_file_are_shown(past: Past) -> None:
    cases = {case["name"]: case["outcome"] for test in past.first["tests"] for case in test["cases"]}
    assert cases == {
        "test_passes": "passed",
        "test_skipped": "skipped",
        "test_one_of_two_fails[1]": "passed",
        "test_one_of_two_fails[2]": "failed",
        "test_takes_memory": "passed",
    }


def test_runs_list_and_show(past: Past) -> None:
    runs = json.loads(past.orch("runs", "list", "--format", "json").stdout)["runs"]
    assert [(run["status"], run["exit_code"], run["tests"]) for run in runs] == [
        ("finished", 1, 2),
        ("finished", 1, 4),
    ]
    shown = past.orch("runs", "show", past.first_id[:8]).stdout
    assert past.first_id[:8] in shown
    assert all(name in shown for name in FILES)
    rows = json.loads(past.orch("runs", "show", past.first_id, "--format", "json").stdout)["attempts"]
    assert {row["test"]: row["outcome"] for row in rows}[ODD_NAME] == "failed"
    assert "no run" in past.orch("runs", "show", "ffffffff", expect=2).stderr


def test_runs_diff(past: Past) -> None:
    diff = json.loads(past.orch("runs", "diff", past.first_id, "--format", "json").stdout)
    assert {row["test"] for row in diff["in_one_run_only"]} == {"test/good.test.sh", "test/test_large.py"}
    assert past.orch("runs", "diff", past.first_id).stdout


def test_runs_export(past: Past, tmp_path: Path) -> None:
    past.orch("runs", "export", past.first_id, "--out", str(tmp_path / "run.json"))
    exported = json.loads((tmp_path / "run.json").read_text())
    assert past.first_id in json.dumps(exported)
    assert json.loads(past.orch("runs", "export", past.first_id).stdout) == exported


@pytest.mark.parametrize("by", ["memory", "cpu", "duration", "memory-ratio"])
def test_offenders(past: Past, by: str) -> None:
    rows = json.loads(past.orch("offenders", "--by", by, "--format", "json").stdout)["offenders"]
    # a shell test of a millisecond may use nothing beyond the calibration, and is no offender then
    idle = {name for name in FILES if name.endswith(".sh")} if by == "cpu" else set()
    assert set(FILES) - idle <= {row["test"] for row in rows} <= set(FILES)
    key = {"memory": "memory_peak_bytes", "cpu": "cpu_seconds", "duration": "duration_seconds"}.get(
        by, "memory_ratio"
    )
    figures = [row[key] for row in rows]
    assert figures == sorted(figures, reverse=True)
    if by.startswith("memory"):
        assert rows[0]["test"] == "test/test_large.py"


def test_offenders_of_a_window_and_a_limit(past: Past) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    refused = past.orch("offenders", "--since", tomorrow, "--format", "json", expect=2)
    assert "is empty" in refused.stderr
    assert len(json.loads(past.orch("offenders", "--limit", "1", "--format", "json").stdout)["offenders"]) == 1
    assert "cannot read the window" in past.orch("offenders", "--since", "yesteryear", expect=2).stderr


def test_report_in_each_format(past: Past) -> None:
    rows = list(csv.DictReader(io.StringIO(past.orch("report", "--format", "csv").stdout)))
    assert {row["test"] for row in rows} == set(FILES)
    assert "test/test_large.py" in past.orch("report").stdout
    assert past.orch("report", "--format", "markdown").stdout.count("\n|") >= len(FILES)
    assert json.loads(past.orch("report", "--run", "latest", "--format", "json").stdout)["attempts"]


def test_the_printed_repro_command_gives_the_same_exit_code(past: Past) -> None:
    command = past.orch("repro", f"{past.first_id[:8]}:{ODD_NAME}").stdout
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd="/", timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "went wrong\n")
    again = past.orch("repro", "--run", f"latest:{Path(ODD_NAME).name}", expect=1)  # the exit code of a run
    assert ["exit", "code", "3", "3", "same"] in [line.split() for line in again.stdout.splitlines()]
    passing = past.orch("repro", f"{past.first_id}:test/test_large.py").stdout
    done = subprocess.run(["sh", "-c", passing], capture_output=True, text=True, cwd="/", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "has no test" in past.orch("repro", "latest:nothing", expect=2).stderr


def test_history_orders_and_predicts(past: Past) -> None:
    # nothing is predicted for a test that never passed, because a failure says little about a pass
    assert "4 tests, 2 with history" in past.orch("plan").stdout


def test_prune_removes_old_run_folders(past: Past) -> None:
    newest = run_folders(past.orch)[-1]
    old = past.orch.project / ".orch/runs/20200101T000000Z-0123abcd"
    (old / "tests").mkdir(parents=True)
    assert "would remove" in past.orch("runs", "prune", "--dry-run").stdout
    assert old.exists()
    assert "removed" in past.orch("runs", "prune").stdout
    assert not old.exists()
    assert newest.exists()


def test_db_path_prints_the_path_of_the_database(past: Past, tmp_path: Path) -> None:
    assert past.orch("db", "path").stdout.strip() == str(past.orch.project / ".orch/resources.db")
    elsewhere = tmp_path / "other.db"
    past.orch("run", "test/good.test.sh", "--db", f"sqlite:///{elsewhere}")
    assert elsewhere.stat().st_size > 0
    assert elsewhere.stat().st_mode & 0o022 == 0


def test_a_renamed_folder_keeps_its_history(tmp_path: Path) -> None:
    """The project's id, not its folder's name, identifies its history (CASES B6)."""
    before = Orch(project=write_files(tmp_path / "before", {"test/a.test.sh": "exit 0\n"}))
    before("run")
    after = Orch(project=before.project.rename(tmp_path / "after"))
    after("run")
    (row,) = json.loads(after("offenders", "--by", "duration", "--format", "json").stdout)["offenders"]
    assert row["attempts"] == 2
    runs = json.loads(after("runs", "list", "--format", "json").stdout)["runs"]
    assert len(runs) == 2
    told = after("report")
    assert "other project" not in told.stderr

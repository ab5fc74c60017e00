"""`orch flaky` and its diagnoses on the real engine: the cause of a failure is named, and no container is left.

A hardened container shares with its neighbours only the machine's CPUs and the project's files, which are
read-only but can be locked. A test shares with the test before it in its slot only the continuing process numbers;
files, processes and IPC are removed. Two tests fail by these, and by nothing else.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import Orch, objects_of, wait_until, write_files

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = {
    "profiles.yaml": """version: 1
profiles:
  small: {cpus: 1, memory: 64m, tmpfs: 8m, outputs: 4m, timeout: 20s, grace: 1s, reuse: 20}
rules:
  - {match: "test/**", profile: small}
suites:
  - {name: shell, match: ["test/**/*.sh"], runner: shell}
""",
    # fails while another container has the lock, so beside itself and beside the rival
    "test/lock.sh": """#!/bin/sh
exec 9<"$0"
flock -n 9 || { echo "somebody else has the lock" >&2; exit 1; }
sleep 0.2
""",
    "test/a_rival.sh": """#!/bin/sh
exec 9<test/lock.sh
flock 9
sleep 1.5
""",
    # a predecessor that leaves whatever it can, and uses many process numbers
    "test/litter.sh": """#!/bin/sh
touch /tmp/litter "$ORCH_OUTPUT_DIR/litter"
for n in $(seq 100); do /bin/true; done
""",
    # fails by its process number alone: it can find nothing else of its predecessor
    "test/numbered.sh": """#!/bin/sh
[ -z "$(ls /tmp)" ] || { echo "litter in /tmp" >&2; exit 2; }
[ $$ -lt 90 ] || { echo "process $$" >&2; exit 1; }
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Orch:
    """Return a project with a history in which `rival` held the lock and `litter` ran before."""
    orch = Orch(project=write_files(tmp_path_factory.mktemp("flaky") / "project", FILES))
    # in order of name: the second rival waits for the first one's lock, so it runs beside the lock's test
    orch("run", "--jobs", "2", "--repeat", "2", "test/lock.sh", "test/a_rival.sh", expect=None)
    orch("run", "--jobs", "1", "test/litter.sh", "test/numbered.sh")
    return orch


def recorded(orch: Orch, run: str) -> Mapping[str, Any]:
    """Return what the diagnoses' database has about one diagnosis."""
    place = f"sqlite:///{orch.project}/.orch/diagnoses/resources.db"
    found: Mapping[str, Any] = json.loads(orch("runs", "show", run, "--db", place, "--format", "json").stdout)
    return found


RUNS = 7
"""Attempts under each condition. One may miss the rival, which is restarted now and then: 6 of 7 still show it."""


def diagnosed(orch: Orch, test: str) -> Mapping[str, Mapping[str, Any]]:
    done = orch("flaky", "--diagnose", test, "--runs", str(RUNS), "--format", "json", seconds=240)
    rows = json.loads(done.stdout)["diagnosis"]
    assert objects_of(rows[0]["run"]) == []
    return {row["condition"]: row for row in rows}


def test_a_failure_beside_other_tests_is_diagnosed(project):
    before = project("runs", "list", "--format", "json").stdout
    rows = diagnosed(project, "lock.sh")
    guilty = {name for name, row in rows.items() if row["makes_it_fail"]}
    assert "with neighbours" in guilty, rows
    assert guilty <= {"with neighbours", "with itself"}, rows
    assert rows["with neighbours"]["detail"] == "test/a_rival.sh"
    assert rows["with itself"]["failed"] > 0
    innocent = ("alone", "in a reused slot", "half its CPUs", "busy host", "little memory")
    assert {name: rows[name]["failed"] for name in innocent} == dict.fromkeys(innocent, 0)
    assert all(rows[name]["attempts"] == RUNS for name in innocent)
    assert project("runs", "list", "--format", "json").stdout == before, "it is no run of the project"
    names = {row["test"] for row in recorded(project, rows["alone"]["run"])["attempts"]}
    assert names == {"test/lock.sh", "test/a_rival.sh"}


def test_a_failure_in_a_reused_slot_is_diagnosed(project):
    """The test fails by process numbers only; exit code 2 would mean that it found files of its predecessor."""
    rows = diagnosed(project, "numbered.sh")
    assert {name for name, row in rows.items() if row["makes_it_fail"]} == {"in a reused slot"}, rows
    assert rows["in a reused slot"]["detail"] == "after test/litter.sh"
    assert rows["in a reused slot"]["message"] == "exit code 1"


def test_ctrl_c_ends_a_diagnosis_and_its_background_load(project):
    process = project.start("flaky", "--diagnose", "a_rival.sh", "--runs", "50")
    try:
        latest = project.project / ".orch/diagnoses/latest"
        old = latest.resolve()
        assert wait_until(lambda: latest.resolve() != old and latest.is_dir(), 120)
        run_id = latest.resolve().name.rpartition("-")[2]
        assert wait_until(lambda: any((latest / "tests").glob("*.r3")), 120)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, (stdout, stderr)
    assert "stopped before its end" in stdout
    (run,) = recorded(project, run_id)["runs"]
    assert (run["status"], run["exit_code"]) == ("interrupted", 130)

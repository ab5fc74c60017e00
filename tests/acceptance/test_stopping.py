"""A run that is stopped by Ctrl-C once or twice, TERM, HUP, a closed output or kill -9 leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import Orch, objects_of, run_folders, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROFILES = """version: 1
profiles:
  quick: {cpus: 0.5, memory: 32m, tmpfs: 8m, outputs: 4m, timeout: 5s}
  endless: {inherits: quick, timeout: 300s, grace: 20s}
rules:
  - {match: "test/quick*", profile: quick}
  - {match: "test/**", profile: endless}
"""
QUICK = "#!/bin/sh\nexit 0\n"
ENDLESS = "#!/bin/sh\nsleep 250\n"
STUBBORN = "#!/bin/sh\ntrap '' TERM INT HUP\nwhile :; do sleep 1; done\n"


@contextmanager
def running(orch: Orch, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a run; when two short tests have ended and an endless one runs, return (process, run id)."""
    process = orch.start("run", "--jobs", "3", *words)
    try:
        assert wait_until(lambda: process.poll() is not None or under_way(orch), 120), "the run did not start"
        assert process.poll() is None, process.communicate()
        yield process, str(events(orch)[0]["run"]["id"])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def events(orch: Orch) -> list[dict[str, Any]]:
    files = sorted((orch.project / ".orch").glob("runs/*/events.jsonl"))
    lines = files[-1].read_text().splitlines(keepends=True) if files else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def under_way(orch: Orch) -> bool:
    seen = events(orch)
    finished = [event for event in seen if event["event"] == "test-finished"]
    started = [event for event in seen if event["event"] == "test-started"]
    if len(finished) < 2 or len(started) < 3:
        return False
    time.sleep(1)  # "started" is printed when its container is being made
    return True


def recorded(orch: Orch, run_id: str) -> tuple[str, int | None, dict[str, str]]:
    """Return status, exit code, and outcome by test, from the database."""
    document = json.loads(orch("runs", "show", run_id, "--format", "json").stdout)
    (run,) = document["runs"]
    return run["status"], run["exit_code"], {row["test"]: row["outcome"] for row in document["attempts"]}


@pytest.fixture
def orch(make_project: Callable[..., Orch]) -> Orch:
    files = {"test/quick1.test.sh": QUICK, "test/quick2.test.sh": QUICK, "test/long.test.sh": ENDLESS}
    return make_project({"profiles.yaml": PROFILES, **files})


def place_of(run_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"orch-{run_id}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_ends_records_and_cleans(orch: Orch, number: signal.Signals) -> None:
    with running(orch, "--junit", "report.xml") as (process, run_id):
        os.killpg(process.pid, number)  # like a terminal, which signals the whole foreground group
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    assert "2 passed" in stdout
    assert objects_of(run_id) == []
    assert not place_of(run_id).exists()
    status, code, outcomes = recorded(orch, run_id)
    assert (status, code) == ("interrupted", 128 + number)
    assert outcomes == {
        "test/quick1.test.sh": "passed",
        "test/quick2.test.sh": "passed",
        "test/long.test.sh": "interrupted",
    }
    assert (orch.project / "report.xml").exists()
    assert json.loads((run_folders(orch)[-1] / "run.json").read_text())["run"]["exit_code"] == 128 + number


def test_a_second_ctrl_c_does_not_wait_for_the_grace(make_project: Callable[..., Orch]) -> None:
    files = {"test/quick1.test.sh": QUICK, "test/quick2.test.sh": QUICK, "test/long.test.sh": STUBBORN}
    orch = make_project({"profiles.yaml": PROFILES, **files})
    with running(orch) as (process, run_id):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None, "a test that ignores TERM has its grace"
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert time.monotonic() - began < 8
    assert process.returncode == 130
    assert objects_of(run_id) == []
    assert recorded(orch, run_id)[0] == "interrupted"


def test_kill_9_leaves_nothing_and_loses_nothing(orch: Orch) -> None:
    with running(orch) as (process, run_id):
        assert objects_of(run_id) != []
        process.kill()
        process.communicate()
    assert wait_until(lambda: objects_of(run_id) == [], 10), objects_of(run_id)
    assert wait_until(lambda: not place_of(run_id).exists(), 5)
    runs = json.loads(orch("runs", "list", "--format", "json").stdout)["runs"]
    assert [run["status"] for run in runs] == ["interrupted"]
    _, _, outcomes = recorded(orch, run_id)
    assert outcomes == {"test/quick1.test.sh": "passed", "test/quick2.test.sh": "passed"}
    assert orch("list", "--rerun", "latest").stdout.splitlines() == ["test/long.test.sh"]


def test_a_closed_output_ends_the_run(orch: Orch) -> None:
    with running(orch) as (process, run_id):
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        # the next line that it prints cannot be written
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        assert process.stderr is not None
        said = process.stderr.read()
    assert "Traceback" not in said
    assert process.returncode in {128 + signal.SIGTERM, 128 + signal.SIGPIPE}
    assert wait_until(lambda: objects_of(run_id) == [], 10)


def test_output_to_head_ends_without_an_error(make_project: Callable[..., Orch]) -> None:
    orch = make_project({f"test/{n}.test.sh": QUICK for n in range(4)})
    line = 'status=0; { "$@" || echo $? >status; } | head -n 1'
    words = ["sh", "-c", line, "sh", *orch.command("run", "--jobs", "1", "--profile", "fast")]
    done = subprocess.run(
        words, cwd=orch.project, env=orch.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("Run ")
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert (orch.project / "status").read_text() == f"{128 + signal.SIGPIPE}\n"
    run_id = str(events(orch)[0]["run"]["id"])
    assert wait_until(lambda: objects_of(run_id) == [], 10)
    assert json.loads(orch("runs", "list", "--format", "json").stdout)["runs"][0]["status"] == "interrupted"


def test_old_run_folders_are_removed_during_a_run_and_a_stop_does_not_wait_for_it(orch: Orch) -> None:
    profiles = orch.project / "profiles.yaml"
    profiles.write_text(f"{PROFILES}retention: {{runs_count: 2}}\n")
    for _ in range(2):
        orch("run", "test/quick1.test.sh")
    oldest, older = run_folders(orch)
    with running(orch) as (process, _):
        assert wait_until(lambda: not oldest.exists(), 10)
        assert len(run_folders(orch)) == 2
        profiles.write_text(f"{PROFILES}retention: {{runs_count: 1}}\n")
        process.send_signal(signal.SIGSTOP)  # alive, but stopped
        assert "1 run folder " in orch("runs", "prune").stdout
        assert older not in run_folders(orch)
        (mine,) = run_folders(orch)
        orch("run", "test/quick1.test.sh")  # it is the newest run now, and one is kept
        assert mine in run_folders(orch)
        process.send_signal(signal.SIGCONT)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "0 run folders" not in orch("runs", "prune").stdout
    assert len(run_folders(orch)) == 1


def test_sigusr1_prints_what_is_running(orch: Orch) -> None:
    with running(orch) as (process, _):
        os.kill(process.pid, signal.SIGUSR1)
        assert process.stderr is not None
        while line := process.stderr.readline():  # until its end at the latest, where it has not said so
            if "test/long.test.sh" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert "test/long.test.sh" in line

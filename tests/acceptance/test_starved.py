"""A busy machine changes no verdict: no timeout for lack of CPU, no leak of an ending process (CASES A11, A12)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import Orch, wait_until, write_files
from tests.support.load import busy_machine

if TYPE_CHECKING:
    from pathlib import Path

SHARED_MEMORY = """
from multiprocessing import shared_memory
def test_it():
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    block.close()
    block.unlink()
"""
POOL = """
import multiprocessing
def test_it():
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
"""
LEFTOVER = """
import subprocess
def test_it():
    subprocess.Popen(["sleep", "3600"], **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL))
"""
SETTINGS = "version: 1\nprofiles:\n  fast: {timeout: 20s}\n"


def run_while_busy(orch: Orch, loops: int, *words: str) -> tuple[int, str, dict[str, dict[str, Any]]]:
    """Run orch, with loops that use the CPUs from its first test on. Return exit code, output, tests by name."""
    process = orch.start("run", *words)
    try:
        assert wait_until(lambda: process.poll() is not None or has_begun(orch), 120), "the run did not start"
        with busy_machine(loops, seconds=110):
            out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in {0, 1}, out + err
    tests = json.loads((orch.project / ".orch/latest/run.json").read_text())["tests"]
    return process.returncode, out, {test["id"]: test for test in tests}


def has_begun(orch: Orch) -> bool:
    return any('"test-started"' in file.read_text() for file in orch.project.glob(".orch/runs/*/events.jsonl"))


@pytest.mark.parametrize("profile", ["fast", "standard"])
def test_a_process_that_ends_by_itself_on_a_busy_machine_is_no_leak(tmp_path: Path, profile: str) -> None:
    """multiprocessing's resource tracker and forkserver end by themselves after the test and are no leak (A12)."""
    files = {f"test/test_shm_{n}.py": SHARED_MEMORY for n in range(4)}
    files |= {f"test/test_pool_{n}.py": POOL for n in range(2)}
    files |= {"test/test_left.py": LEFTOVER, "profiles.yaml": SETTINGS}
    orch = Orch(project=write_files(tmp_path / "project", files))
    _, _, tests = run_while_busy(orch, 14, "--profile", profile, "-j", "4")
    found = {name: (test["verb"], test["leftovers"]) for name, test in tests.items()}
    verb, (left,) = found.pop("test/test_left.py")
    assert (verb, left["command_line"]) == ("LEAK", "sleep 3600")
    assert found == dict.fromkeys(found, ("PASS", []))
    assert len(found) == 6


NEEDS_A_SECOND_AND_A_HALF = """
import time
def test_it():
    while time.process_time() < 1.5:
        pass
"""
HANGS = """
import time
def test_it():
    time.sleep(99)
"""


def test_a_busy_machine_makes_no_test_overrun(tmp_path: Path) -> None:
    """At a load of 16 on 2 CPUs a test that needs 1.5 s of CPU takes more than its limit of 5 s and passes (A11).
    One that hangs times out, and is not run a second time. With --fresh, because a time limit that passes in a
    reused slot is confirmed in a fresh one.
    """
    files = {f"test/test_cpu_{n}.py": NEEDS_A_SECOND_AND_A_HALF for n in range(2)}
    files |= {"test/test_hang.py": HANGS, "profiles.yaml": "version: 1\nprofiles:\n  standard: {timeout: 5s}\n"}
    orch = Orch(project=write_files(tmp_path / "project", files))
    code, out, found = run_while_busy(orch, 16, "--profile", "standard", "--fresh", "-j", "2")
    assert code == 1, out
    hang = found.pop("test/test_hang.py")
    assert (hang["verb"], len(hang["attempts"])) == ("TIMEOUT", 1)
    assert hang["duration_seconds"] < 15
    for test in found.values():
        assert (test["verb"], len(test["attempts"])) == ("PASS", 1)
        assert test["duration_seconds"] > 5, "the machine was not busy: this says nothing"
        assert test["duration_seconds"] - test["cpu_waited_seconds"] < 5
    assert len(re.findall(r"test_cpu_\d\.py    host busy: [12](\.\d)? s of CPU in \d+(\.\d+)? s\n", out)) == 2

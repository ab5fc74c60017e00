"""The kernel reports a test's exit independently of the agent (CASES A2)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.isolation import hardening
from orchestrator.engine.isolation.hardening import agent_text
from orchestrator.engine.metering.exit_witness import ExitWitness
from orchestrator.measure.sampler import Sampler
from orchestrator.model.outcomes import Outcome
from orchestrator.verdict.outcome import decide
from tests.docker.test_attestation_real import Bench, outcome_of
from tests.docker.test_reuse_real import Lane, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.engine.docker.engine import DockerEngine

pytestmark = pytest.mark.docker
LIES = agent_text().replace("    code=$?\n}", "    code=0\n}")
"""An agent that says 0 of every test, and ends with it."""
EXIT = 93 if os.uname().machine == "aarch64" else 60
THREADS = (
    "import ctypes, os, threading, time; late = lambda: (time.sleep(0.1), os._exit({code}));"
    f" threading.Thread(target=late).start(); ctypes.CDLL(None).syscall({EXIT}, 3)"
)
"""The first thread ends with 3, and later another one ends the process."""


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


@pytest.fixture
def lane(engine: DockerEngine, isolation_image: str, tmp_path: Path, sampler: Sampler) -> Iterator[Lane]:
    made = Lane(engine, isolation_image, tmp_path, sampler)
    yield made
    made.close()


@pytest.mark.parametrize("shell", ["busybox_image", "dash_image"])
def test_each_way_to_end_is_reported(
    engine: DockerEngine, tmp_path: Path, sampler: Sampler, shell: str, request: pytest.FixtureRequest
) -> None:
    bench = Bench(engine, request.getfixturevalue(shell), tmp_path, sampler)
    for text, code in {
        "exit 0": 0,
        "exit 7": 7,
        "exit 255": 255,
        "kill -KILL $$": 137,
        "kill -ABRT $$": 134,
        "(sleep 0.05; exit 4) & exit 3": 3,
        "sh -c 'sh -c \"exit 9\" &' & wait; sleep 0.1; exit 2": 2,
    }.items():
        evidence = bench.sh(text)
        assert evidence.agent is not None, text
        assert evidence.kernel_exit_code == evidence.agent.exit_code == code, text


@pytest.mark.parametrize("code", [3, 5])
def test_a_process_whose_first_thread_ended_before(lane: Lane, code: int) -> None:
    [found] = lane.run(lane.test(THREADS.format(code=code), program=("python3", "-c"), reuse=1))
    assert found.agent is not None
    assert found.agent.exit_code == code
    assert found.kernel_exit_code == (3 if code == 3 else None)


@pytest.mark.parametrize("code", [0, 1])
def test_a_test_whose_agent_reports_a_false_exit_code_is_infra(
    engine: DockerEngine,
    busybox_image: str,
    tmp_path: Path,
    sampler: Sampler,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    assert agent_text() != LIES
    monkeypatch.setattr(hardening, "agent_text", lambda: LIES)
    found = outcome_of(Bench(engine, busybox_image, tmp_path, sampler).sh(f"exit {code}"))
    expected = (Outcome.INFRA, "two exit codes: agent's record 0, kernel 1") if code else (Outcome.PASSED, "")
    assert found == expected


@pytest.mark.parametrize(
    "before", ["sleep 0.2", "touch /tmp/x; sleep 0.2", "(sleep 0.05 &); chmod 700 /tmp; sleep 0.2"]
)
def test_in_a_reused_slot_tests_that_orch_releases_are_reported(lane: Lane, before: str) -> None:
    """Not reported: the first test, before which the agent starts programs, and tests that the agent begins.
    Programs that the agent starts to clean up are not taken for the next test.
    """
    texts = ["sleep 0.2", "sleep 0.2", before, "sleep 0.2; exit 3"]
    tests = [lane.test(text) for text in texts]
    found = lane.run(*tests)
    assert [evidence.slot.position for evidence in found] == [1, 2, 3, 4]
    assert [evidence.kernel_exit_code for evidence in found] == [None, None, 0, 3]
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 3 + [Outcome.FAILED]
    doubtful = replace(found[2], kernel_exit_code=1)
    assert decide(doubtful, command=tests[2].test.command, cases=(), cases_problem=None).outcome is Outcome.INFRA


def test_only_forks_of_this_process_are_reported() -> None:
    witness, other = ExitWitness(os.getpid()), ExitWitness(1)
    try:
        for status in (3, 0):
            witness.begin()
            other.begin()
            subprocess.run(["sh", "-c", f"(exit 9); exit {status}"], check=False)
            subprocess.run(["true"], check=False)
            assert witness.exit_code(status) == status
            assert other.exit_code(status) is None
        witness.begin()
        began = time.monotonic()
        assert witness.exit_code(0) is None
        assert time.monotonic() - began < 0.05  # nothing was forked, so there is nothing to wait for
    finally:
        witness.close()
        other.close()


def test_a_lost_event_is_no_evidence() -> None:
    """More threads end than the kernel keeps messages for while nobody reads."""
    witness = ExitWitness(os.getpid())
    many = "import threading\nfor _ in range(3000):\n t = threading.Thread(target=int)\n t.start()\n t.join()"
    try:
        witness.begin()
        subprocess.run([sys.executable, "-c", many], check=True)
        assert witness.exit_code(0) is None
        witness.begin()
        subprocess.run(["sh", "-c", "exit 6"], check=False)
        assert witness.exit_code(0) == 6
    finally:
        witness.close()

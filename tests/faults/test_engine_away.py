"""A separate engine goes away and comes back (FAULTS E1, E2, E6, E9, O1, O3; CASES A10, D1 to D3)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.cleanup import orphaned_slots
from orchestrator.measure.processes import owner_alive
from tests.faults.own_engine import IMAGE, NEEDS, OwnEngine, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, NEEDS]
CHECKOUT = Path(__file__).resolve().parents[2]
FIRST = "test/t000.test.sh"
RESTARTS = 5 if os.environ.get("ORCH_FAULTS") == "all" else 1
TESTS = 300 if RESTARTS > 1 else 16
PROFILES = f"""version: 1
images: {{tiny: {{reference: "{IMAGE}"}}}}
profiles:
  fresh: {{cpus: 1, memory: 64m, timeout: 10s, tmpfs: 8m, network: none, image: tiny, reuse: 1}}
  reused: {{inherits: fresh, reuse: 50}}
default_profile: fresh
"""
LONG_AT_FIRST = '[ "$ORCH_ATTEMPT" = 1 ] || exec sleep 0.2\nexec sleep 5\n'
"""A test that somebody has time to find and to do something to."""


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    made = OwnEngine()
    yield made
    made.close()


class Run:
    """An `orch run` in a process of its own."""

    def __init__(self, engine: OwnEngine, project: Path, *words: str, **env: str) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("ORCH_", "PYTHON"))}
        self.project = project
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "run", "--show-progress", "plain", *words],
            cwd=project,
            env={**kept, "PYTHONPATH": str(CHECKOUT), "NO_COLOR": "1", "DOCKER_HOST": engine.address, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def events(self) -> list[dict[str, Any]]:
        """Return the events that the run has written so far."""
        try:
            lines = (self.project / ".orch" / "latest" / "events.jsonl").read_text().splitlines(keepends=True)
        except OSError:
            return []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def await_ended(self, count: int, seconds: float = 120) -> None:
        """Wait until this number of tests have results."""
        deadline = time.monotonic() + seconds
        while sum(event["event"] == "test-finished" for event in self.events()) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "its tests do not end"
            time.sleep(0.05)

    def await_running(self, engine: OwnEngine, seconds: float = 120) -> str:
        """Wait for the first test, and return the ID of its container."""
        deadline = time.monotonic() + seconds
        label = f"label=io.orch.test={FIRST}"
        while True:
            for found in engine.docker("ps", "-q", "--no-trunc", "--filter", label).split():
                if "sleep" in engine.docker("top", found, refused=""):
                    return found
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "no test begins"
            time.sleep(0.05)

    def end(self, seconds: float = 120) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    def close(self) -> None:
        self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate()

    @property
    def id(self) -> str:
        return str(next(e for e in self.events() if e["event"] == "run-started")["run"]["id"])

    def attempts(self) -> dict[str, list[dict[str, Any]]]:
        """Return the results of each test's attempts, by test."""
        found: dict[str, list[dict[str, Any]]] = {}
        for event in self.events():
            if event["event"] == "attempt-finished":
                found.setdefault(event["id"], []).append(event["result"])
        return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / "test").mkdir(parents=True)
    tmp_path.chmod(0o755)
    made.chmod(0o755)
    (made / "profiles.yaml").write_text(PROFILES)
    return made


def fill(project: Path, script: str, count: int = 1) -> None:
    for number in range(count):
        (project / "test" / f"t{number:03}.test.sh").write_text(script)


def assert_nothing_is_left(engine: OwnEngine, run_id: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while left := traces(engine, run_id):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.parametrize("profile", ["fresh", "reused"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_restart_of_the_engine_loses_no_test(
    engine: OwnEngine, project: Path, profile: str, how: signal.Signals
) -> None:
    """Tests that had not begun lose no attempt, tests that ran run again, nothing is left or lost (E1, D1, D2)."""
    fill(project, "sleep 0.2\n", TESTS)
    run = Run(engine, project, "--profile", profile, "-j", "3", "test")
    try:
        for number in range(RESTARTS):
            run.await_ended(4 + number * TESTS // (RESTARTS + 1))
            engine.end(how)
            time.sleep(1)
            engine.start()
        code, out, err = run.end()
    finally:
        run.close()
    assert (code, f"{TESTS} run: {TESTS} passed" in out) == (0, True), out + err
    went = [line for line in err.splitlines() if "does not answer since" in line]
    back = [line for line in err.splitlines() if "the engine is back after" in line]
    assert len(went) == len(back) <= RESTARTS, err
    assert went or profile == "reused", err  # reused containers may have needed no engine while it was away
    attempts = run.attempts()
    assert len(attempts) == TESTS
    again = [a for a in attempts.values() if len(a) > 1]
    assert len(again) <= 3 * RESTARTS
    for first, *_ in again:
        assert (first["outcome"], first["message"]) == ("infra", "the engine ended while the test ran")
    assert_nothing_is_left(engine, run.id)


def test_an_engine_that_is_frozen_is_waited_for(engine: OwnEngine, project: Path) -> None:
    """orch waits for a frozen engine, with `ORCH_FAULTS=all` longer than a call may take (E2)."""
    fill(project, "sleep 0.2\n", 12)
    run = Run(engine, project, "-j", "2", "test")
    try:
        run.await_ended(3)
        engine.send(signal.SIGSTOP)
        try:
            time.sleep(75 if RESTARTS > 1 else 2)
        finally:
            engine.send(signal.SIGCONT)
        code, out, err = run.end()
    finally:
        run.close()
    assert (code, "12 run: 12 passed" in out) == (0, True), out + err
    assert_nothing_is_left(engine, run.id)


def test_an_engine_that_stays_away_ends_the_run_with_the_reason(engine: OwnEngine, project: Path) -> None:
    fill(project, "sleep 0.2\n", 12)
    run = Run(engine, project, "-j", "2", "test", ORCH_ENGINE_AWAY_SECONDS="2")
    try:
        run.await_ended(3)
        engine.end(signal.SIGKILL)
        code, out, err = run.end(60)
    finally:
        run.close()
        engine.start()
    assert code == 36, out + err
    assert "the engine has not come back within 2 s" in out + err
    recorded = [e["test"]["outcome"] for e in run.events() if e["event"] == "test-finished"]
    assert recorded.count("passed") >= 3  # finished results stay
    assert_nothing_is_left(engine, run.id, 30)  # the watchdog's work


def test_clean_up_after_a_run_and_its_engine_are_killed_at_once(engine: OwnEngine, project: Path) -> None:
    """What the watchdog cannot reach is found by its cgroups (O1, O3, D2)."""
    fill(project, "sleep 5\n", 4)
    run = Run(engine, project, "-j", "2", "test")
    try:
        run.await_running(engine)
        run_id = run.id
        for child in Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)  # its watchdog
        engine.send(signal.SIGSTOP)
        run.process.kill()
        engine.end(signal.SIGKILL)
    finally:
        run.close()
    assert [one for one in orphaned_slots.find_of_dead(owner_alive) if run_id[:8] in one.name]
    engine.start()
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("ORCH_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "clean"],
        env={**kept, "PYTHONPATH": str(CHECKOUT), "DOCKER_HOST": engine.address},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_is_left(engine, run_id)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pause",), "paused externally"),
        (("stop", "--time=1"), "stopped externally"),
        (("kill",), "killed externally"),
        (("kill", "--signal=TERM"), "killed externally"),
        (("rm", "--force"), "externally"),
        (("restart", "--time=1"), "restarted externally"),
        (("update", "--cpus=0.5"), "given other limits externally"),
        (("exec",), "entered externally"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_container_changed_by_somebody_else_makes_its_test_infra(
    engine: OwnEngine, project: Path, words: tuple[str, ...], message: str
) -> None:
    """The test is `infra` with the cause, and runs once more (A10, E6)."""
    fill(project, LONG_AT_FIRST)
    (project / "profiles.yaml").write_text(PROFILES.replace("timeout: 10s", "timeout: 8s"))
    run = Run(engine, project, "-j", "1", "test")
    try:
        container = run.await_running(engine)
        engine.docker(*words, container, *(("true",) if words == ("exec",) else ()))
        code, out, err = run.end()
    finally:
        run.close()
    ((first, second),) = run.attempts().values()
    assert first["outcome"] == "infra", first["message"]
    assert re.search(message, first["message"]), first["message"]
    assert (second["outcome"], code) == ("passed", 0), out + err
    assert_nothing_is_left(engine, run.id)


def test_a_cgroup_that_is_frozen_from_outside_is_not_a_timeout(engine: OwnEngine, project: Path) -> None:
    """The cgroup is frozen without the engine's knowledge (A10)."""
    fill(project, LONG_AT_FIRST)
    (project / "profiles.yaml").write_text(PROFILES.replace("timeout: 10s", "timeout: 8s"))
    run = Run(engine, project, "-j", "1", "test")
    try:
        container = run.await_running(engine)
        pid = engine.docker("inspect", "--format", "{{.State.Pid}}", container).strip()
        freeze(pid)
        code, out, err = run.end()
    finally:
        run.close()
    ((first, second),) = run.attempts().values()
    assert (first["outcome"], "frozen externally" in first["message"]) == ("infra", True), first["message"]
    assert (second["outcome"], code) == ("passed", 0), out + err
    assert_nothing_is_left(engine, run.id)


def freeze(pid: str) -> None:
    """Freeze the cgroup of a container's process."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer":
            Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").write_text("FROZEN")
            return
    Path(f"/sys/fs/cgroup{path}/cgroup.freeze").write_text("1")


def two_images(project: Path, other: str) -> None:
    """Write six tests of one image into the project, and two of another image that run later."""
    images = f'images: {{tiny: {{reference: "{IMAGE}"}}, other: {other}}}'
    text = re.sub("images: .*", images, PROFILES).replace(
        "default_profile", "  later: {inherits: fresh, image: other, timeout: 5s}\ndefault_profile"
    )
    (project / "profiles.yaml").write_text(text + 'rules:\n  - {match: "test/z*", profile: later}\n')
    fill(project, "sleep 0.2\n", 6)
    for name in ("z1", "z2"):
        (project / "test" / f"{name}.test.sh").write_text("sleep 0.2\n")


def test_an_image_that_is_removed_during_the_run_is_restored(engine: OwnEngine, project: Path) -> None:
    """An image that is removed is built again from its content (D3, E9)."""
    (project / "Dockerfile").write_text(f"ARG BASE_IMAGE={IMAGE}\nFROM ${{BASE_IMAGE}}\nLABEL content=mine\n")
    (project / ".dockerignore").write_text("*\n")
    two_images(project, "{dockerfile: Dockerfile}")
    kept = engine.docker(
        "run", "--detach", "--network=none", IMAGE, "/bin/sleep", "600"
    ).strip()  # its base is available
    run = Run(engine, project, "-j", "1", "test")
    try:
        run.await_ended(2)
        engine.docker("system", "prune", "--all", "--force")
        code, out, err = run.end()
    finally:
        run.close()
        engine.docker("rm", "--force", kept)
    assert (code, "8 run: 8 passed" in out) == (0, True), out + err
    (line,) = [line for line in err.splitlines() if "was removed externally" in line]
    assert "image other" in line
    assert "restored in" in line
    assert_nothing_is_left(engine, run.id)


def test_an_image_that_cannot_be_restored_is_named(engine: OwnEngine, project: Path) -> None:
    """An image that exists only here and cannot be built again is named (D3)."""
    two_images(project, '{reference: "orch-test-other:1"}')
    kept = engine.docker("run", "--detach", "--network=none", IMAGE, "/bin/sleep", "600").strip()
    engine.docker("commit", "--change=LABEL content=other", kept, "orch-test-other:1")
    run = Run(engine, project, "-j", "1", "test")
    try:
        run.await_ended(2)
        engine.docker("system", "prune", "--all", "--force")
        code, out, err = run.end()
    finally:
        run.close()
        engine.docker("rm", "--force", kept)
    assert code == 36, out + err
    # a container may have been opened before its image was removed
    assert re.search(r"(6 passed, 2|7 passed, 1) infra", out), out
    assert "image other" in out
    assert "was removed externally, and cannot be restored" in out
    assert_nothing_is_left(engine, run.id)

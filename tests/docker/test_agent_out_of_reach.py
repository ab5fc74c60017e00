"""A test cannot affect the agent, the preload server or its templates, although they have the same user.

Each attack (CASES A1, A2) is made from inside a real test, in a fresh and in a reused slot and from a preloaded
pytest, under the four built-in profiles, for an orch of root and for one of a user of the docker group. The same
attack on a child of the test itself succeeds, so a broken attack cannot look like protection.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.config.loader import load_config
from orchestrator.coordinator.session import seccomp_text
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.isolation.hardening import STREAMS_DIR, ContainerContext, agent_text
from orchestrator.engine.labels import Owner
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure.processes import host_info, owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.evidence import Launch
from orchestrator.model.outcomes import Outcome
from orchestrator.model.suites import Preload
from orchestrator.model.tests import Assignment, Command, Test, TestId
from orchestrator.scheduling.assign import clamp
from orchestrator.stop_flag import StopFlag
from orchestrator.verdict.outcome import decide
from tests.docker.test_attestation_real import READABLE, Bench, Disobedient, outcome_of
from tests.support.cgroups import cgroups_named
from tests.support.handmade import busybox_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.engine.docker.engine import DockerEngine
    from orchestrator.model.evidence import Evidence

pytestmark = pytest.mark.docker
PROGRAMS = Path(__file__).parent / "attacks"
ORDINARY_UID = 1001
"""Of the user of the docker group: the same number as the tests' user has, which is the hardest case."""
USERS = ["ourselves", *(["ordinary"] if os.geteuid() == 0 else [])]
PLAIN = Command(argv=("python3", "attack.py"))
PYTEST = ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider")

PROTECTED = {
    **dict.fromkeys(
        (
            *("mem, to read and write", "mem of the thread", "environ", "environ of the thread", "auxv", "maps"),
            *("smaps", "pagemap", "syscall", "personality", "io", "list fd", "list fd of the thread"),
            *("list fdinfo", "list map_files", "readlink fd/0", "fdinfo/0", "exe", "readlink exe", "cwd", "root"),
            *("root of the thread", "ns/pid", "write oom_score_adj", "write coredump_filter", "write clear_refs"),
            *("write comm", "inotify on fd"),
            *(f"fd/{number}, to {what}" for number in (0, 3, 7, 8, 9) for what in ("read", "write")),
        ),
        "EACCES",
    ),
    **dict.fromkeys(
        (
            *("ptrace attach", "ptrace seize", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
            *("get_robust_list", "write timerslack_ns"),
        ),
        "EPERM",
    ),
    "stat: addresses": "hidden",
}
"""What the kernel answers for the agent, the server and a template."""
ON_A_CHILD = {
    **dict.fromkeys(PROTECTED, "ok"),
    "stat: addresses": "shown",
    # refused for every other process
    "write comm": "EINVAL",
    "write timerslack_ns": "EPERM",
}
STREAMS = {
    "names": "a b",
    **{f"open {name}, to {what}": "ENOENT" for name in ("in", "out", "err") for what in ("read", "write")},
    **dict.fromkeys(("make a file", "make in", "unlink an order", "rename an order", "chmod"), "EROFS"),
    "write into an order": "EACCES",
}
TRACING = ("ptrace attach", "ptrace seize", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp")
"""Calls that our seccomp profile refuses, also on a child, unless SYS_PTRACE is given back (`intensive`)."""


class Runs:
    """Runs assignments under a built-in profile, in lanes of this process's user."""

    def __init__(self, engine: DockerEngine, images: dict[str, str], folder: Path, sampler: Sampler) -> None:
        self._folder = folder
        self._run_id = str(uuid.uuid4())
        self._config = load_config(path=None, start=folder, env={})
        project, work = folder / "project", folder / "work"
        shutil.copytree(PROGRAMS, project)
        work.mkdir()
        self.executor = LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, StopFlag()),
                context=ContainerContext(
                    project_root=project, state_dir=None, seccomp=seccomp_text(self._config), counters=()
                ),
                owner=Owner(run_id=self._run_id, token=owner_token(), work_dir=str(work)),
                images=images,
                sampler=sampler,
                work_dir=work,
            ),
            stop=StopFlag(),
        )

    def test(self, command: Command, profile: str, reuse: int) -> Assignment:
        settings, _ = clamp(self._config.profiles[profile], host_info())
        limits = replace(settings.limits, timeout_seconds=60.0)  # the machine may be busy
        return Assignment(
            run_id=self._run_id,
            test=Test(id=TestId(path=f"{uuid.uuid4().hex[:8]}"), suite="attacks", command=command),
            profile=replace(settings, reuse=reuse, limits=limits),
            reason="test",
        )

    def place_of(self, assignment: Assignment) -> Path:
        place = self._folder / str(assignment.test.id.path)
        place.mkdir(exist_ok=True)
        return place

    def run(self, *assignments: Assignment) -> list[Evidence]:
        """Run the assignments one after another in one lane."""
        lane = self.executor.lane()
        try:
            following = (*assignments[1:], None)
            return [
                lane.run(one, time.monotonic(), self.place_of, lambda next_=next_: next_)
                for one, next_ in zip(assignments, following, strict=True)
            ]
        finally:
            lane.close()

    def answers(self, profile: str) -> dict[str, Any]:
        """Return {mode: answers} of the attacks in a fresh slot, in a reused slot, and from a preloaded pytest."""
        preloaded = [Command(argv=(*PYTEST, f"test_{n}.py"), preload=Preload.START) for n in ("first", "attack")]
        tests = {
            "fresh": [self.test(PLAIN, profile, 1)],
            "reused": [self.test(Command(argv=("true",)), profile, 10), self.test(PLAIN, profile, 10)],
            "preloaded": [self.test(command, profile, 10) for command in preloaded],
        }
        found = {}
        for mode, assignments in tests.items():
            *_, last = evidences = self.run(*assignments)
            for evidence, assignment in zip(evidences, assignments, strict=True):
                decision = decide(evidence, command=assignment.test.command, cases=(), cases_problem=None)
                assert decision.outcome is Outcome.PASSED, (mode, decision.message, evidence.stdout.tail)
            assert last.slot.position == len(assignments)
            assert (last.slot.launch is Launch.FORKED) == (mode == "preloaded"), last.slot.note
            text = (self.place_of(assignments[-1]) / "outputs/answers.json").read_text(encoding="utf-8")
            found[mode] = json.loads(text)
        return found

    def close(self) -> None:
        self.executor.close()


def as_ordinary_user(work: Callable[[Path], Any]) -> Any:
    """Call `work` with a folder in a process of a user of the docker group, and return its result."""
    place = Path(tempfile.mkdtemp(prefix="orch-attacks-"))
    socket = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    socket_group = socket.stat().st_gid
    try:
        shutil.chown(place, ORDINARY_UID, ORDINARY_UID)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.environ.update(XDG_CACHE_HOME=str(place / "cache"), HOME=str(place))
                os.setgroups([socket_group])
                os.setgid(ORDINARY_UID)
                os.setuid(ORDINARY_UID)
                (place / "result").write_bytes(pickle.dumps(work(place)))
                status = 0
            except BaseException as error:  # noqa: BLE001 - of another process, told below
                (place / "error").write_text(repr(error), encoding="utf-8")
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert status == 0, (place / "error").read_text(encoding="utf-8")
        return pickle.loads((place / "result").read_bytes())
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for path in cgroups_named(f"orch[-_]u{ORDINARY_UID}[-_]*"):
            path.rmdir()


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


@pytest.fixture
def images(engine: DockerEngine, isolation_image: str) -> dict[str, str]:
    full = engine.find_image("orch/test-full:latest")
    assert full is not None, "orch build --offline-base makes it; scripts/test does that"
    return {"isolation": isolation_image, "full": full}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("profile", ["fast", "standard", "slow", "intensive"])
def test_nothing_of_the_agent_can_be_reached(
    engine: DockerEngine, images: dict[str, str], tmp_path: Path, profile: str, user: str
) -> None:
    def work(place: Path) -> dict[str, Any]:
        with Sampler() as sampler:
            runs = Runs(engine if user == "ourselves" else open_engine(), images, place, sampler)  # type: ignore[arg-type]
            try:
                return runs.answers(profile)
            finally:
                runs.close()

    for mode, answers in (work(tmp_path) if user == "ourselves" else as_ordinary_user(work)).items():
        protected = ["agent", *(["server", "template"] if mode == "preloaded" else [])]
        assert {name: answers[name] for name in protected} == dict.fromkeys(protected, PROTECTED), mode
        tracing = {} if profile == "intensive" else dict.fromkeys(TRACING, "EPERM")
        assert answers["child"] == {**ON_A_CHILD, **tracing}, mode
        # the ordinary user has the uid of the tests' user, so only the mount protects the files
        own = {"write into an order": "EROFS"} if user == "ordinary" else {}
        assert answers["streams"] == {**STREAMS, **own}, mode
        assert answers["signals"] == {"sent": "ok", "stopped": "False"}, mode
        # readable for everybody, so it must contain no secret: no nonce, no environment variable
        assert not re.search(r"\b[0-9a-f]{24}\b", answers["command line"]["agent"])
        assert "THEIR" not in answers["command line"]["agent"]


STEAL = """
command exec 5<>/proc/1/fd/7 || exit 0
read -r line <&5
printf '%s ../../work/poison\\n%s\\n' "${line%% *}" "$line" >&5
"""
"""Puts a line of its own before the next order, which names a script of the project (CASES A1)."""
POISON = "launch() { code=0; }\n"
PATCH = """
import re, sys
try:
    heap = re.search(r"([0-9a-f]+)-([0-9a-f]+) rw.*\\[heap\\]", open("/proc/1/maps").read())
    start, end = (int(word, 16) for word in heap.groups())
    with open("/proc/1/mem", "r+b", 0) as memory:
        memory.seek(start)
        for found in re.finditer(rb"code=[0-9]+", memory.read(end - start)):
            memory.seek(start + found.start())
            memory.write(b"code=0\\0")
            print("patched")
except OSError as error:
    print(error)
sys.exit(1)
"""
"""Sets the exit code on the agent's heap (CASES A2)."""


@pytest.fixture
def cheats(engine: DockerEngine, images: dict[str, str], tmp_path: Path, sampler: Sampler) -> Iterator[Runs]:
    made = Runs(engine, images, tmp_path, sampler)
    (tmp_path / "project/poison").write_text(POISON)
    yield made
    made.close()


def outcomes(evidences: list[Evidence]) -> list[Outcome]:
    return [outcome_of(evidence)[0] for evidence in evidences]


def sh(text: str) -> Command:
    return Command(argv=("sh", "-c", text))


def stolen(runs: Runs) -> list[Evidence]:
    commands = [sh(STEAL), *(sh("exit 1") for _ in range(6))]
    return runs.run(*(runs.test(command, "fast", 1000) for command in commands))


def test_an_order_cannot_be_stolen(cheats: Runs) -> None:
    """A test cannot read the order of the next test (CASES A1)."""
    assert outcomes(stolen(cheats)) == [Outcome.PASSED, *[Outcome.FAILED] * 6]


def test_a_stolen_order_would_not_be_followed(
    engine: DockerEngine, images: dict[str, str], tmp_path: Path, sampler: Sampler
) -> None:
    """Even if the agent can be reached, that is detected, and a line that is no order ends the container."""
    readable = ("-c", READABLE, agent_text(), STREAMS_DIR)
    within_reach: Any = Disobedient(engine, lambda spec: replace(spec, argv=readable))
    runs = Runs(within_reach, images, tmp_path, sampler)
    (tmp_path / "project/poison").write_text(POISON)
    try:
        found = stolen(runs)
    finally:
        runs.close()
    assert outcomes(found) == [Outcome.INFRA] * 7
    # the container ended before the next test was released, or with it
    assert found[1].engine is not None
    assert found[1].slot.position == 1 or found[1].engine.exit_code == 125


def test_an_exit_code_cannot_be_changed_in_memory(cheats: Runs) -> None:
    """A test cannot change the agent's record of its exit code (CASES A2)."""
    for profile, reuse in (("standard", 1), ("fast", 1000)):
        test = cheats.test(Command(argv=("python3", "-c", PATCH)), profile, reuse)
        [evidence] = cheats.run(test)
        assert outcome_of(evidence) == (Outcome.FAILED, "exit code 1")
        assert b"Permission denied: '/proc/1/maps'" in evidence.stdout.tail


NONCE = b"0123456789abcdef01234567"


@pytest.mark.parametrize(
    "line",
    [b"", b"garbage", b"go now", NONCE, NONCE + b" c", NONCE + b" ../a", NONCE + b"0 a", NONCE[1:] + b"A a",
     NONCE + b" a b", b"a " + NONCE],
)  # fmt: skip
def test_a_line_that_is_no_order_ends_the_container(engine: DockerEngine, cheats: Runs, line: bytes) -> None:
    tests = [cheats.test(sh(":"), "fast", 1000) for _ in range(3)]
    lane = cheats.executor.lane()
    try:
        found = [lane.run(tests[0], time.monotonic(), cheats.place_of)]
        slot = lane._slot
        assert slot is not None
        assert slot.session._channel is not None
        slot.session._channel.write(line + b"\n")
        assert engine.wait(slot.session.container_id, 20) == 125
        found += [lane.run(test, time.monotonic(), cheats.place_of) for test in tests[1:]]
    finally:
        lane.close()
    assert outcomes(found) == [Outcome.PASSED] * 3
    assert [evidence.slot.position for evidence in found] == [1, 1, 2]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_text_between_two_tests_is_infra(cheats: Runs, stream: str) -> None:
    tests = [cheats.test(sh(":"), "fast", 1000) for _ in range(3)]
    lane = cheats.executor.lane()
    try:
        found = [lane.run(tests[0], time.monotonic(), cheats.place_of)]
        assert lane._slot is not None
        channel: Any = lane._slot.session._channel
        [number] = [number for number, name in channel._inputs.items() if name == stream]
        with Path(f"/proc/self/fd/{number}").open("wb", buffering=0) as written:
            written.write(b"x")
        found += [lane.run(test, time.monotonic(), cheats.place_of) for test in tests[1:]]
    finally:
        lane.close()
    assert outcomes(found) == [Outcome.PASSED, Outcome.INFRA, Outcome.PASSED]
    assert f"{stream} wrote 'x' between two tests" in outcome_of(found[1])[1]


ALL_SIGNALS = "for number in $(seq 64); do kill -$number 1; done 2>/dev/null; sleep 0.1; exit 7"


@pytest.mark.parametrize("shell", [None, "/bin/dash", "/bin/bash"])
def test_no_signal_ends_or_misleads_an_agent(
    engine: DockerEngine, tmp_path: Path, sampler: Sampler, shell: str | None
) -> None:
    name = f"orch-test-signals:{uuid.uuid4().hex[:12]}"
    image = engine.import_rootfs(io.BytesIO(busybox_rootfs(shell=shell and Path(shell))), name, {})
    try:
        evidence = Bench(engine, image, tmp_path, sampler).sh(ALL_SIGNALS)
        assert outcome_of(evidence) == (Outcome.FAILED, "exit code 7")
    finally:
        engine.remove_image(prepared_image(engine, image))
        engine.remove_image(name)

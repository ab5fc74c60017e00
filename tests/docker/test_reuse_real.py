"""Reused slots on a real engine: tests share a container, and some try to affect later ones (FAULTS H18)."""

from __future__ import annotations

import os
import re
import struct
import textwrap
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.labels import Owner, run_filter
from orchestrator.engine.metering.slot_meter import SlotMeter
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.init_process import InitProcessMonitor, _descendants, _number_inside
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure import reused_slot
from orchestrator.measure.cgroups import AGENT_FILES_V1, AGENT_FILES_V2
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.evidence import Launch
from orchestrator.model.outcomes import Outcome
from orchestrator.model.suites import Preload, ResultsFormat
from orchestrator.stop_flag import StopFlag
from orchestrator.verdict.outcome import decide
from tests.support.handmade import OPEN_SECCOMP, make_assignment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.base import Engine
    from orchestrator.engine.docker.engine import DockerEngine
    from orchestrator.model.evidence import Evidence
    from orchestrator.model.tests import Assignment

pytestmark = pytest.mark.docker
MIB = 1 << 20
PEAKS_ARE_SET_BACK = os.geteuid() == 0
"""Whether orch may do that, as root. Otherwise a test that needs more than an eighth of its limit ends its
container, because its peak would be the bound of every later figure.
"""
ROOM = 512 * MIB
"""For forked tests: where peaks cannot be set back, who needs an eighth of it has a container of its own."""
SECCOMP = Path(__file__).parents[2] / "docker" / "seccomp.json"
HEAD = textwrap.dedent("""\
    import ctypes, errno, fcntl, os, resource, signal, struct, subprocess, sys, time
    libc = ctypes.CDLL(None, use_errno=True)
    AGENT, TEMPLATE = 1, os.getppid()
    with open(f"/proc/{TEMPLATE}/stat") as file:
        SERVER = int(file.read().rpartition(") ")[2].split()[1])  # 0, where process 1 is the parent

    def call(number, *arguments):
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    def write(path, text):
        with open(path, "w") as file:
            file.write(text)

    """)
"""Of the Python tests here; system calls are numbered as on x86-64."""
LATE_SECONDS = 0.6
VERY_LATE_SECONDS = 3.0
"""Longer than the agent needs between two tests, on a busy or an emulated machine too."""
PRISTINE = (
    "set -e; for place in /tmp /dev/shm $ORCH_OUTPUT_DIR /dev/mqueue; do"
    ' test -z "$(ls -A $place)" || { echo "$place: $(ls -A $place)"; exit 9; }; done;'
    ' test "$(ls -d /proc/[0-9]* | wc -l)" -le 6;'
    ' for table in shm sem msg; do test "$(wc -l </proc/sysvipc/$table)" = 1; done;'
    ' test "$(ulimit -n)" = 256; test "$(umask)" = 0022; test "$PWD" = /work; test -z "$POISON";'
    " test \"$(sed 's/.*) //' /proc/self/stat | cut -d' ' -f17)\" = 0;"
    ' test "$(grep -l "State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l)" = 0'
)
"""A test that passes only where it sees nothing of an earlier one."""
INHERITED = (
    "stat -c '%n %a %u %g' /tmp /dev/shm $ORCH_OUTPUT_DIR /dev/mqueue; grep -v pending /proc/self/limits;"
    " cat /proc/self/coredump_filter /proc/self/oom_score_adj; sed 's/.* nice/nice/' /proc/self/autogroup;"
    " sed 's/.*) //' /proc/self/stat | cut -d' ' -f16-18,38-39;"
    " grep -E '^(Umask|Sig(Blk|Ign)|Cap...|NoNewPrivs|Seccomp|Cpus_allowed|Mems_allowed)' /proc/self/status;"
    " grep -h ^flags /proc/self/fdinfo/[012]; ls /proc/self/fd | tr '\\n' ' '; pwd;"
    " env | grep -vE '^(_|ORCH_TEST_ID|SHLVL|OLDPWD|PYTEST_.*|XML_.*)=' | sort"
)
"""Prints what a test has from the processes that it is started by, and the modes of the places it may write to."""


class Lane:
    """Runs tests one after another; each is submitted before the one before it has ended."""

    def __init__(
        self, engine: Engine, image: str, folder: Path, sampler: Sampler, *, seccomp: str = OPEN_SECCOMP
    ) -> None:
        self.engine = engine
        self.run_id = str(uuid.uuid4())
        self._folder = folder
        project, work = folder / "project", folder / "work"
        project.mkdir()
        work.mkdir()
        self.project, self.work = project, work
        version_2 = engine.info.cgroup_version == 2
        self.executor = LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, StopFlag()),
                context=ContainerContext(
                    project_root=project,
                    state_dir=None,
                    seccomp=seccomp,
                    counters=AGENT_FILES_V2 if version_2 else AGENT_FILES_V1,
                    next_counters=reused_slot.AGENT_FILES_V2 if version_2 else reused_slot.AGENT_FILES_V1,
                ),
                owner=Owner(run_id=self.run_id, token=owner_token(), work_dir=str(work)),
                images={"tiny": image},
                sampler=sampler,
                work_dir=work,
            ),
            stop=StopFlag(),
        )
        self._lane = self.executor.lane()
        self._lanes = [self._lane]

    def next_lane(self) -> None:
        """Run the following tests in a new lane; the containers of the lane before remain."""
        self._lane = self.executor.lane()
        self._lanes.append(self._lane)

    def test(self, text: str, *, program: tuple[str, ...] = ("sh", "-c"), **changes: Any) -> Assignment:
        path = f"t{uuid.uuid4().hex[:8]}.sh"
        return make_assignment(*program, text, run_id=self.run_id, path=path, **{"reuse": 10, **changes})

    def pytest(self, text: str, *, folder: str = ".", **changes: Any) -> Assignment:
        """Return a test that is forked from a preloaded pytest. `text` is the body of its function."""
        name = f"{folder}/test_{uuid.uuid4().hex[:8]}.py"
        file = self.project / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{HEAD}def test_it():\n{textwrap.indent(text, '    ')}\n")
        words = ("python3", "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", name)
        return make_assignment(
            *words,
            run_id=self.run_id,
            path=name,
            preload=Preload.START,
            **{"reuse": 10, "memory_bytes": ROOM, **changes},
        )

    def run(self, *assignments: Assignment) -> list[Evidence]:
        found = []
        for assignment, following in zip(assignments, (*assignments[1:], None), strict=True):
            evidence = self._lane.run(assignment, time.monotonic(), self._place, lambda next_=following: next_)
            found.append(evidence)
        return found

    def _place(self, assignment: Assignment) -> Path:
        place = self._folder / f"{assignment.test.id.path.replace('/', '-')}-{assignment.attempt}"
        place.mkdir(exist_ok=True)
        return place

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()
        self.executor.close()


def outcome(evidence: Evidence, assignment: Assignment) -> Outcome:
    assert assignment.test.command.results is ResultsFormat.EXIT_CODE
    return decide(evidence, command=assignment.test.command, cases=(), cases_problem=None).outcome


def container(evidence: Evidence) -> str:
    assert evidence.attestation is not None
    assert evidence.attestation.mismatches == ()
    return evidence.attestation.container_id


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


def _lane(engine: Engine, image: str, tmp_path: Path, sampler: Sampler) -> Iterator[Lane]:
    made = Lane(engine, image, tmp_path, sampler)
    yield made
    made.close()
    assert engine.find(run_filter(made.run_id)) == ()
    assert [p for p in made.work.iterdir() if not p.name.startswith("orch-hosts-")] == []  # of the whole run
    tally = made.executor.tally
    assert tally.expected == tally.created == tally.removed


@pytest.fixture(params=["busybox_image", "dash_image"])
def lane(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path, sampler: Sampler) -> Iterator[Lane]:
    yield from _lane(engine, request.getfixturevalue(request.param), tmp_path, sampler)


@pytest.fixture
def python_lane(engine: DockerEngine, isolation_image: str, tmp_path: Path, sampler: Sampler) -> Iterator[Lane]:
    yield from _lane(engine, isolation_image, tmp_path, sampler)


@pytest.fixture
def late_looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Delay orch's readings of a container between two tests, as on a busy machine. Return the seconds of delay of
    the first readings.
    """
    look, first = SlotMeter.snapshot, list[float]()

    def late(self: SlotMeter) -> reused_slot.CounterSnapshot | None:
        # an agent that did not wait would have ended long before
        time.sleep(first.pop(0) if first else LATE_SECONDS)
        return look(self)

    monkeypatch.setattr(SlotMeter, "snapshot", late)
    return first


def test_tests_share_a_container_and_nothing_else(lane: Lane) -> None:
    tests = [lane.test(f"echo out {n}; echo err {n} >&2; {PRISTINE}") for n in range(12)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 12
    assert [e.slot.position for e in found] == [*range(1, 11), 1, 2]
    assert len({container(e) for e in found[:10]}) == 1
    assert container(found[10]) != container(found[0])
    assert [e.stdout.tail for e in found] == [b"out %d\n" % n for n in range(12)]
    assert [e.stderr.tail for e in found] == [b"err %d\n" % n for n in range(12)]
    # the last test of a container has the engine's exit as second witness, the others have the running process 1
    assert [e.kept for e in found] == [*[True] * 9, False, True, True]
    for evidence in found:
        assert evidence.agent is not None
        assert evidence.usage.cpu_seconds is not None
        assert evidence.usage.memory_peak_bytes is not None


def test_each_test_has_figures_of_its_own(lane: Lane) -> None:
    burn = "i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done"
    fill = "dd if=/dev/zero of=/tmp/x bs=1M count=12 2>/dev/null"
    tests = [lane.test(text, timeout_seconds=300.0) for text in (":", burn, fill, ":")]
    light, heavy, large, again = lane.run(*tests)
    assert not heavy.timed_out
    assert {container(e) for e in (light, heavy, large)} == {container(light)}
    assert (container(again) == container(light)) is PEAKS_ARE_SET_BACK
    cpu = [e.usage.cpu_seconds or 0.0 for e in (light, heavy, again)]
    assert cpu[1] > 10 * max(cpu[0], cpu[2])
    peaks = [e.usage.memory_peak_bytes or 0 for e in (light, large, again)]
    assert peaks[1] >= 12 * MIB
    assert max(peaks[0], peaks[2]) < 6 * MIB  # what an earlier test needed is not charged to the next one
    assert not large.usage.memory_peak_is_upper_bound
    assert not again.usage.memory_peak_is_upper_bound or not PEAKS_ARE_SET_BACK


@pytest.mark.usefixtures("late_looks")
def test_counters_are_read_before_a_container_ends(lane: Lane) -> None:
    tests = [
        lane.test(":"),
        lane.test("exit 3"),
        lane.test(":", reuse=2),
        lane.test(":", reuse=2),
        lane.test("exit 4"),
    ]
    for evidence in lane.run(*tests):
        assert evidence.usage.memory_peak_bytes is not None, evidence.usage.missing
        assert evidence.engine_failure is None


def test_the_next_test_begins_without_orch(lane: Lane, late_looks: list[float]) -> None:
    late_looks.append(VERY_LATE_SECONDS)
    say_when = "read up rest </proc/uptime; echo $up"
    fill = "dd if=/dev/zero of=/dev/null bs=12M count=1 2>/dev/null;"
    tests = [lane.test(f"{prefix} {say_when}") for prefix in ("", fill, "", "echo e >&2;", "")]
    found = lane.run(*tests)
    assert [e.stderr.tail for e in found] == [b"", b"", b"", b"e\n", b""]
    if PEAKS_ARE_SET_BACK:
        assert len({container(e) for e in found}) == 1
    else:
        assert [e.slot.position for e in found] == [1, 2, 1, 2, 3]  # otherwise the second one's peak would remain
    times = [float(e.stdout.tail) for e in found]
    assert times[1] - times[0] < VERY_LATE_SECONDS  # the reading between them took that long
    # a late reading is marked: the second test's need may be in the third one's figure
    peaks = [(e.usage.memory_peak_bytes or 0, e.usage.memory_peak_is_upper_bound) for e in found]
    assert peaks[1][0] >= 11.5 * MIB  # the kernel charges in batches of 256 KiB
    assert peaks[2][0] < 6 * MIB or peaks[2][1]


SHELL_POISONS = {
    "files": "echo x >/tmp/a; echo x >/tmp/.b; echo x >/tmp/..c; mkdir -p /tmp/d/e; echo x >/tmp/d/e/f",
    "a file of the pattern's name": "echo x >'/tmp/*'",
    "files elsewhere": "echo x >/dev/shm/a; echo x >$ORCH_OUTPUT_DIR/o",
    "a folder without permissions": "mkdir /tmp/d; echo x >/tmp/d/f; chmod 0 /tmp/d",
    "names with newlines": "touch \"/tmp/a\nb\" '/tmp/ c '; ln -s /etc /tmp/link",
    "surroundings": "POISON=1; export POISON; cd /; umask 0; ulimit -n 10; ulimit -f 0",
    "the streams": "for f in in out err a b; do echo junk >/run/orch/$f; done 2>/dev/null; :",
}


@pytest.mark.parametrize("poison", SHELL_POISONS.values(), ids=SHELL_POISONS)
def test_files_that_a_test_leaves_are_removed_before_the_next(lane: Lane, poison: str) -> None:
    tests = [lane.test(PRISTINE), lane.test(poison), lane.test(PRISTINE), lane.test(PRISTINE)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert container(found[0]) == container(found[1])


@pytest.mark.parametrize(
    "poison",
    ["sleep 600 & :", "(trap '' TERM INT HUP; while :; do sleep 1; done) & :", "sleep 600 & exit 3", "exit 3"],
)
def test_a_process_left_or_a_failure_ends_the_container(lane: Lane, poison: str) -> None:
    tests = [lane.test(PRISTINE), lane.test(poison), lane.test(PRISTINE)]
    first, poisoned, after = lane.run(*tests)
    assert container(first) == container(poisoned) != container(after)
    assert (poisoned.slot.position, after.slot.position) == (2, 1)
    assert outcome(after, tests[2]) is Outcome.PASSED
    assert poisoned.agent is not None
    assert bool(poisoned.agent.leftovers) == ("&" in poison)
    assert not poisoned.kept


HOPS, SPINS = 1 << 30, 400_000
HOPPER = (
    bytes.fromhex("7f454c46020101" + "00" * 9 + "02003e0001000000")  # ELF, 64 bits, a program for x86-64
    + struct.pack("<QQQIHHHHHH", 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 0x1000, 0x1000, 0x1000)
    + b"\x41\xbc"
    + struct.pack("<I", HOPS)
    + b"\xb9"
    + struct.pack("<I", SPINS)
    + bytes.fromhex("ffc975fc")  # spin, for 0.1 to 0.2 ms
    + bytes.fromhex("b8390000000f0585c0740b78ea")  # fork; the child goes on; again if it is refused
    + bytes.fromhex("31ffb83c0000000f05")  # exit(0)
    + bytes.fromhex("90" * 2 + "41ffcc75da31ffb83c0000000f05")
)
"""A program that forks and exits, the child does the same, and so on."""


def test_a_process_that_forks_and_ends_all_the_time_is_found(lane: Lane) -> None:
    """Such a process would run beside the next test and could forge its result."""
    (lane.project / "hopper").write_bytes(HOPPER)
    (lane.project / "hopper").chmod(0o755)
    tests = [lane.test("./hopper </dev/null >/dev/null 2>&1; exit 0", timeout_seconds=20.0) for _ in range(4)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    left = [e.agent.leftovers for e in found if e.agent is not None]
    assert len(left) == 4
    assert all(left), left  # two processes, if one is about to end
    assert {p.command_line for processes in left for p in processes} == {"./hopper"}
    assert {e.slot.position for e in found} == {1}  # no test followed in the same container


def test_a_forked_test_that_leaves_a_process_is_not_charged_with_its_server(python_lane: Lane) -> None:
    """The server ends with the leftover process, and its memory must not count as the test's own (CASES B1)."""
    lane = python_lane
    leak = "subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    tests = [lane.pytest("pass"), lane.pytest("pass"), lane.pytest(leak), lane.pytest("pass")]
    found = lane.run(*tests)
    assert [e.slot.launch for e in found] == [Launch.FORKED] * 4
    assert found[2].agent is not None
    assert len(found[2].agent.leftovers) == 1
    own = [e.usage.memory_peak_bytes or 0 for e in found]
    assert own[2] < own[1] + 6 * MIB, own
    assert (found[2].usage.memory_floor_bytes or 0) > 20 * MIB


def test_a_timeout_and_an_oom_in_a_reused_container(lane: Lane) -> None:
    over = (
        "dd if=/dev/zero of=/tmp/x bs=1M count=15 2>/dev/null; x=$(cat /tmp/x /tmp/x /tmp/x /tmp/x | tr '\\0' x)"
    )
    tests = [
        lane.test(":", memory_bytes=24 * MIB),
        lane.test(over, memory_bytes=24 * MIB),
        lane.test(PRISTINE, timeout_seconds=0.5),
        lane.test("sleep 60", timeout_seconds=0.5),
        lane.test(PRISTINE, timeout_seconds=0.5),
    ]
    fine, oom, before, hung, after = lane.run(*tests)
    assert container(fine) == container(oom)
    assert (oom.usage.oom_kills or 0) >= 1
    assert container(before) == container(hung) != container(after)
    assert outcome(hung, tests[3]) is Outcome.TIMEOUT
    assert hung.usage.cpu_seconds is not None
    assert outcome(after, tests[4]) is Outcome.PASSED


def test_a_killed_agent_is_infra_and_the_next_test_runs_in_a_new_container(lane: Lane) -> None:
    import threading

    tests = [lane.test(":"), lane.test("echo there; sleep 20"), lane.test(PRISTINE)]

    def kill() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for found in lane.engine.find(run_filter(lane.run_id)):
                place = lane.work.parent / f"{tests[1].test.id.path}-1" / "stdout"
                if place.exists():
                    lane.engine.kill(found.id)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    found = lane.run(*tests)
    killer.join()
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [
        Outcome.PASSED,
        Outcome.INFRA,
        Outcome.PASSED,
    ]
    assert found[2].slot.position == 1


PYTHON_POISONS = {
    "System V memory": "import ctypes; assert ctypes.CDLL(None).shmget(0x1234, 4096, 0o1600) >= 0",
    "System V semaphores": "import ctypes; assert ctypes.CDLL(None).semget(0x1234, 3, 0o1600) >= 0",
    "System V messages": "import ctypes; assert ctypes.CDLL(None).msgget(0x1234, 0o1600) >= 0",
    "a private one": "import ctypes; assert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
    "limits of process 1": "import resource as r; r.prlimit(1, r.RLIMIT_NOFILE, (20, 20))",
    "a soft limit of process 1": "import resource as r; r.prlimit(1, r.RLIMIT_FSIZE, (5, r.RLIM_INFINITY))",
    "priority of process 1": "import os; os.setpriority(os.PRIO_PROCESS, 1, 5)",
    "affinity of process 1": "import os; os.sched_setaffinity(1, {min(os.sched_getaffinity(0))})",
}


@pytest.mark.parametrize("poison", PYTHON_POISONS.values(), ids=PYTHON_POISONS)
def test_a_container_that_cannot_be_cleaned_is_removed(python_lane: Lane, poison: str) -> None:
    lane, python = python_lane, ("python3", "-c")
    tests = [lane.test(PRISTINE), lane.test(poison, program=python), lane.test(PRISTINE), lane.test(PRISTINE)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert container(found[0]) == container(found[1]) != container(found[2]) == container(found[3])


def test_a_leftover_message_queue_is_found(python_lane: Lane) -> None:
    make = "import ctypes; assert ctypes.CDLL(None).mq_open(b'/queue', 0o102, 0o600, None) >= 0"
    lane = python_lane
    tests = [lane.test(PRISTINE), lane.test(make, program=("python3", "-c")), lane.test(PRISTINE)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 3
    assert found[1].agent is not None
    assert [left.kind for left in found[1].agent.ipc] == ["mqueue"]


def test_profiles_that_alternate_keep_a_container_each(lane: Lane) -> None:
    tests = [lane.test(PRISTINE, pids=32 * (1 + number % 2)) for number in range(6)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 6
    assert [e.slot.position for e in found] == [1, 1, 2, 2, 3, 3]
    assert len({container(e) for e in found}) == 2
    for evidence in found:
        assert evidence.usage.cpu_seconds is not None
        assert evidence.usage.memory_peak_bytes is not None


def test_an_idle_slot_can_be_taken_by_another_lane(lane: Lane) -> None:
    first, other, again = lane.test(PRISTINE), lane.test(PRISTINE, pids=32), lane.test(PRISTINE)
    (one, _) = lane.run(first, other)
    lane.next_lane()
    (two,) = lane.run(again)
    assert outcome(two, again) is Outcome.PASSED
    assert container(two) == container(one)
    assert two.slot.position == 2


def test_an_idle_slot_that_ends_affects_no_test(lane: Lane) -> None:
    first, other, again = lane.test(PRISTINE), lane.test(PRISTINE, pids=32), lane.test(PRISTINE)
    (one, _) = lane.run(first, other)
    lane.engine.kill(container(one))
    lane.engine.wait(container(one), 10)
    (two,) = lane.run(again)
    assert outcome(two, again) is Outcome.PASSED
    assert container(two) != container(one)
    assert two.slot.position == 1


def test_a_test_with_other_limits_gets_another_container(lane: Lane) -> None:
    one, two = lane.run(lane.test(":"), lane.test(":", pids=32))
    assert container(one) != container(two)


def test_a_second_attempt_has_a_container_to_itself(lane: Lane) -> None:
    one, two = lane.run(lane.test(":"), lane.test(":", attempt=2))
    assert container(one) != container(two)
    assert (two.slot.position, two.kept) == (1, False)


# ------------------------------------------------------------ what one test could leave to the next (CASES C)

STATE = f"print(subprocess.run(['sh', '-c', {INHERITED!r}], capture_output=True, text=True, check=True).stdout)"
LATER = "time.sleep(0.2)"
"""What is done as soon as a test begins may be done before orch has looked at what the one before it left."""
NOT_USED_AGAIN = "its container is not used again: the test changed "


def state(evidence: Evidence) -> str:
    """Return the state that a test has printed, without pytest's own output."""
    text = evidence.stdout.tail.decode()
    assert "Max open files" in text, (text, evidence.stderr.tail)
    return re.sub(r"^.* in [0-9.]+s$", "", text, flags=re.MULTILINE)


def assert_removed(lane: Lane, tests: list[Assignment], what: str) -> None:
    """Check that two tests share a container, that it is removed after the second one for the given reason, and
    that the tests after it see no change.
    """
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * len(tests), [
        (e.stdout.tail, e.stderr.tail) for e in found
    ]
    places = [container(e) for e in found]
    assert places[0] == places[1] != places[2] == places[3]
    assert (found[1].slot.note or "").startswith(f"{NOT_USED_AGAIN}{what}"), found[1].slot
    assert [found[number].slot.note for number in (0, 2, 3)] == [None] * 3
    assert state(found[0]) == state(found[2]) == state(found[3])


INHERITANCES = {
    "a limit": ("resource.prlimit({pid}, resource.RLIMIT_NOFILE, (40, 40))", "the resource limits"),
    "a soft limit": (
        "resource.prlimit({pid}, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))",
        "the resource limits",
    ),
    "nice": ("os.setpriority(os.PRIO_PROCESS, {pid}, 19)", "the scheduling policy or priority"),
    "affinity": ("os.sched_setaffinity({pid}, {{min(os.sched_getaffinity(0))}})", "the CPU affinity"),
    "SCHED_IDLE": ("os.sched_setscheduler({pid}, os.SCHED_IDLE, os.sched_param(0))", "the scheduling policy"),
    "SCHED_BATCH": ("os.sched_setscheduler({pid}, os.SCHED_BATCH, os.sched_param(0))", "the scheduling policy"),
    "reset on fork": (
        "os.sched_setscheduler({pid}, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))",
        "the scheduling policy",
    ),
    "a time slice": (
        "call(314, {pid}, struct.pack('IIQiIQQQ', 48, 0, 0, 0, 0, 50_000_000, 0, 0), 0)",
        "the scheduling policy",
    ),
    "I/O priority": ("call(251, 1, {pid}, 3 << 13)", "the I/O priority"),
}
WHOLE_GROUP = {
    "nice of the user's processes": ("os.setpriority(os.PRIO_USER, 0, 5)", "the scheduling policy or priority"),
    "nice of the process group": ("os.setpriority(os.PRIO_PGRP, 0, 5)", "the scheduling policy or priority"),
    "I/O priority of all": ("call(251, 3, os.getuid(), 3 << 13)", "the I/O priority"),
    "autogroup": ("write('/proc/self/autogroup', '5')", "the autogroup's priority"),
    "the streams' buffers": ("fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)", "the size of its streams' buffers"),
}
OF_PROCESS_1 = {name: (text.format(pid=1), what) for name, (text, what) in INHERITANCES.items()} | WHOLE_GROUP


@pytest.mark.parametrize(("poison", "what"), OF_PROCESS_1.values(), ids=OF_PROCESS_1)
def test_what_is_inherited_from_process_1_is_watched(python_lane: Lane, poison: str, what: str) -> None:
    """Changes of process 1 that the kernel allows to the same user are detected (CASES C4)."""
    lane = python_lane
    plain = [lane.test(f"{PRISTINE}; {INHERITED}") for _ in range(3)]
    poisoned = lane.test(f"{HEAD}{LATER}; {poison}", program=("python3", "-c"))
    assert_removed(lane, [plain[0], poisoned, *plain[1:]], what)


@pytest.mark.parametrize(("poison", "what"), INHERITANCES.values(), ids=INHERITANCES)
@pytest.mark.parametrize("whose", ["TEMPLATE", "SERVER"])
def test_what_is_inherited_from_a_preloaded_runner_is_watched(
    python_lane: Lane, whose: str, poison: str, what: str
) -> None:
    """The same for a template, which a forked test comes from, and for the server, its parent (CASES C3, C4)."""
    lane = python_lane
    plain = [lane.pytest(STATE) for _ in range(3)]
    found = [plain[0], lane.pytest(f"{LATER}; {poison.format(pid=whose)}"), *plain[1:]]
    assert_removed(lane, found, f"{what}")


def test_the_first_test_of_a_template_is_watched_too(python_lane: Lane) -> None:
    """Nobody has read that template before its first test changes it."""
    lane = python_lane
    tests = [
        lane.pytest(STATE),
        lane.pytest("os.setpriority(os.PRIO_PROCESS, TEMPLATE, 19)", folder="other"),
        lane.pytest(STATE, folder="other"),
        lane.pytest(STATE),
    ]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert container(found[1]) != container(found[2])
    assert "of a process that tests are forked from" in (found[1].slot.note or "")
    assert state(found[0]) == state(found[2]) == state(found[3])


def test_another_folders_template_is_watched_too(python_lane: Lane) -> None:
    lane = python_lane
    find = (
        "with open(f'/proc/{SERVER}/task/{SERVER}/children') as file:\n"
        "    (other,) = {int(pid) for pid in file.read().split()} - {TEMPLATE}\n"
    )
    tests = [
        lane.pytest(STATE),
        lane.pytest(STATE, folder="other"),
        lane.pytest(f"{find}os.sched_setaffinity(other, {{min(os.sched_getaffinity(0))}})", folder="other"),
        lane.pytest(STATE),
    ]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert container(found[0]) == container(found[1]) == container(found[2]) != container(found[3])
    assert (found[2].slot.note or "").startswith(f"{NOT_USED_AGAIN}the CPU affinity of a process that")
    assert state(found[0]) == state(found[1]) == state(found[3])


OTHER_TEMPLATE = (
    "with open(f'/proc/{{SERVER}}/task/{{SERVER}}/children') as file:\n"
    "    (other,) = {{int(pid) for pid in file.read().split()}} - {{TEMPLATE}}\n"
    "os.kill(other, signal.{signal})"
)


@pytest.mark.parametrize("signal", ["SIGSTOP", "SIGKILL"])
def test_another_folders_template_can_be_stopped_or_killed(python_lane: Lane, signal: str) -> None:
    """The test that uses that template has a correct result nevertheless."""
    lane = python_lane
    tests = [
        lane.pytest(STATE),
        lane.pytest(STATE, folder="other"),
        lane.pytest(OTHER_TEMPLATE.format(signal=signal), folder="other"),
        lane.pytest(STATE),
    ]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert {e.slot.launch for e in found} == {Launch.FORKED}
    assert state(found[0]) == state(found[3])


@pytest.mark.parametrize("whose", ["TEMPLATE", "SERVER"])
def test_a_test_that_stops_its_runner_times_out(python_lane: Lane, whose: str) -> None:
    lane = python_lane
    tests = [lane.pytest(f"os.kill({whose}, signal.SIGSTOP)", timeout_seconds=2.0), lane.pytest(STATE)]
    stopped, after = lane.run(*tests)
    assert outcome(stopped, tests[0]) in {Outcome.TIMEOUT, Outcome.PASSED}
    assert outcome(after, tests[1]) is Outcome.PASSED


def test_an_ended_server_is_attributed_to_the_test_that_ended_it(python_lane: Lane) -> None:
    lane = python_lane
    find = "for p in /proc/[0-9]*; do grep -q python3 $p/comm && [ $p != /proc/1 ] && kill -KILL ${p#/proc/}; done"
    tests = [lane.pytest(STATE), lane.test(f"{find}; sleep 0.1; exit 0", memory_bytes=ROOM), lane.pytest(STATE)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 3
    assert container(found[0]) == container(found[1]) != container(found[2])
    assert "forked from, which has ended" in (found[1].slot.note or "")
    assert state(found[0]) == state(found[2])


REFUSED = {
    "timer slack": ("write(f'/proc/{pid}/timerslack_ns', '1000000')", "EPERM"),
    "core dump filter": ("write(f'/proc/{pid}/coredump_filter', '0')", "EACCES"),
    "memory killer's score": ("write(f'/proc/{pid}/oom_score_adj', '900')", "EACCES"),
    "a name": ("write(f'/proc/{pid}/comm', 'x')", "EACCES"),
    "a real-time policy": ("os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))", "EPERM"),
    "more priority": ("os.setpriority(os.PRIO_PROCESS, pid, -1)", "EACCES"),
    "a higher limit": ("resource.prlimit(pid, resource.RLIMIT_NOFILE, (512, 512))", "EPERM"),
    "process group": ("os.setpgid(pid, 0)", "ESRCH"),
    "its memory's nodes": ("call(256, pid, 64, b'\\1' * 8, b'\\1' * 8)", "EPERM"),
    "a page's node": ("call(279, pid, 0, 0, 0, 0, 0)", "EPERM"),
    "the session keyring": ("call(250, 0, -3, 0)", "EPERM"),
    "a key": ("call(248, b'user', b'x', b'y', 1, -5)", "EPERM"),
}


def test_what_cannot_be_changed_in_another_process(
    engine: DockerEngine, isolation_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    """These changes are refused: timer slack needs a capability, and seccomp refuses keyrings."""
    lines = ["for pid in (AGENT, TEMPLATE, SERVER):"]
    for text, number in REFUSED.values():
        lines += [
            "    try:",
            f"        {text}",
            "    except OSError as error:",
            f"        assert error.errno == errno.{number}, ({text!r}, error)",
            "    else:",
            f"        raise AssertionError({text!r})",
        ]
    lane = Lane(engine, isolation_image, tmp_path, sampler, seccomp=SECCOMP.read_text())
    try:
        tests = [lane.pytest("\n".join(lines)), lane.pytest(STATE)]
        found = lane.run(*tests)
        assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 2, found[
            0
        ].stdout.tail.decode()
        assert container(found[0]) == container(found[1])
    finally:
        lane.close()


MODES = {
    "0333": "chmod 0333 {place}",
    "0333 and a file": "echo x >{place}/kept; chmod 0333 {place}",
    "0555": "chmod 0555 {place}",
    "0555 and a file": "echo x >{place}/kept; chmod 0555 {place}",
    "0000 and a file": "echo x >{place}/kept; chmod 0 {place}",
    "0777": "chmod 0777 {place}",
    "setgid": "chmod g+s {place}",
    "nested": "mkdir -p {place}/a/b; echo x >{place}/a/b/c; chmod 0 {place}/a/b {place}/a",
    "nested, names hidden": "mkdir -p {place}/a/b; echo x >{place}/a/b/c; chmod 0111 {place}/a; chmod 333 {place}",
}


@pytest.mark.parametrize("poison", MODES.values(), ids=MODES)
@pytest.mark.parametrize("place", ["/tmp", "$ORCH_OUTPUT_DIR"])
def test_modes_of_writable_places_are_restored(lane: Lane, place: str, poison: str) -> None:
    """After a test has changed modes, the next test has the usual ones (CASES C1, C2)."""
    changed = poison.format(place=place)
    pristine = f"{PRISTINE}; {INHERITED}"
    tests = [lane.test(pristine), lane.test(changed), lane.test(pristine), lane.test(pristine)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert state(found[0]) == state(found[2]) == state(found[3])
    note = found[1].slot.note or ""
    named = "/output" if "OUTPUT" in place else "/tmp"
    record = found[1].agent
    assert record is not None
    if not poison.startswith("mkdir"):
        assert (record.modes, note) == ((named,), f"the test changed the mode of {named}, which was set back")
    if "kept" in poison:
        assert [(left.place, left.names) for left in record.places] == [(named, ("kept",))]
    assert {e.slot.note for e in (found[0], found[2], found[3])} == {None}


@pytest.mark.parametrize(
    "poison",
    [
        "os.chmod('/tmp', 0o1700)",
        "os.setxattr('/tmp', 'user.left', b'x')",
        (
            "acl = b''.join(struct.pack('<HHI', kind, 7, 0xFFFFFFFF) for kind in (1, 4, 32));"
            " os.setxattr('/tmp', 'system.posix_acl_default', struct.pack('<I', 2) + acl)"
        ),
        # FS_IOC_SETFLAGS: no dump
        "fcntl.ioctl(os.open('/tmp', os.O_RDONLY), 0x40086602, struct.pack('l', 0x40))",
    ],
    ids=["bits of others", "extended attribute", "access list", "flags"],
)
def test_attributes_that_only_root_can_read_end_the_container(python_lane: Lane, poison: str) -> None:
    """Only root can read these from outside, as docs/design/engine/reused-slots.md says."""
    lane = python_lane
    plain = [lane.test(f"{PRISTINE}; {INHERITED}") for _ in range(3)]
    poisoned = lane.test(f"import fcntl, os, struct, time\n{LATER}; {poison}", program=("python3", "-c"))
    tests = [plain[0], poisoned, *plain[1:]]
    if os.geteuid() == 0:
        assert_removed(lane, tests, "the mode or attributes of /tmp")
    else:
        found = lane.run(*tests)
        assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4


def test_there_are_no_other_writable_places(python_lane: Lane) -> None:
    lane = python_lane
    look = (
        "import os\n"
        "for folder, folders, names in os.walk('/'):\n"
        "    folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/sys')]\n"
        "    for path in (folder, *(os.path.join(folder, name) for name in names)):\n"
        "        if os.access(path, os.W_OK) and not os.path.islink(path):\n"
        "            print(path)\n"
    )
    test = lane.test(look, program=("python3", "-c"))
    (found,) = lane.run(test)
    devices = {"full", "null", "random", "tty", "urandom", "zero", "pts/ptmx"}
    expected = {"/tmp", "/output", "/dev/shm", "/dev/mqueue", *(f"/dev/{name}" for name in devices)}
    assert set(found.stdout.tail.decode().split()) == expected


STREAM_FLAGS = (
    "for number in (1, 2):\n"
    "    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_NONBLOCK)\n"
    "    fcntl.flock(number, fcntl.LOCK_EX)"
)
STREAMS = (
    "for number in (1, 2):\n"
    "    assert not fcntl.fcntl(number, fcntl.F_GETFL) & os.O_NONBLOCK\n"
    "    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)"
)


def test_flags_and_locks_of_the_streams_end_with_their_test(python_lane: Lane) -> None:
    """Flags and locks belong to an open file, which the tests of a slot do not share."""
    lane, python = python_lane, ("python3", "-c")
    plain = [
        lane.test(f"import fcntl, os\n{text}", program=python, memory_bytes=ROOM)
        for text in (STREAM_FLAGS, STREAMS)
    ]
    forked = [lane.pytest(text) for text in (STREAM_FLAGS, STREAMS)]
    tests = [*forked, *plain]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert len({container(e) for e in found}) == 1


ORPHANS = "for i in $(seq {count}); do (: &) ; done"


def test_orphans_of_a_preloaded_test_are_reaped(python_lane: Lane) -> None:
    """Orphans do not use up a limit of 64 processes (CASES C5)."""
    lane = python_lane
    count = (
        "time.sleep(0.2)\n"
        "states = [open(f'/proc/{pid}/stat').read().rpartition(') ')[2][0] for pid in os.listdir('/proc') if"
        " pid.isdigit()]\n"
        "assert states.count('Z') == 0, states"
    )
    fork = f"subprocess.run(['sh', '-c', {ORPHANS.format(count=100)!r}], check=True)\n{count}"
    tests = [lane.pytest(fork), lane.pytest(f"{count}\n{STATE}"), lane.pytest(fork), lane.pytest(STATE)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4, [
        e.stdout.tail for e in found
    ]
    assert len({container(e) for e in found}) == 1
    assert {e.slot.launch for e in found} == {Launch.FORKED}
    assert {e.slot.note for e in found} == {None}


@pytest.mark.parametrize("mode", ["preloaded", "reused", "fresh"])
def test_13000_orphans_fill_no_pids_limit(python_lane: Lane, mode: str) -> None:
    """The same for 13,000 orphans, in each way to run a test (FAULTS H13)."""
    lane = python_lane
    text, limits = ORPHANS.format(count=13_000), {"timeout_seconds": 240.0}
    if mode == "preloaded":
        tests = [
            lane.pytest(f"subprocess.run(['sh', '-c', {text!r}], check=True)", **limits),
            lane.pytest(STATE, **limits),
        ]
    else:
        limits = {**limits, "reuse": 10 if mode == "reused" else 1}
        tests = [lane.test(text, **limits), lane.test(f"{PRISTINE}; {INHERITED}", **limits)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 2, [
        e.stderr.tail for e in found
    ]
    assert (container(found[0]) == container(found[1])) is (mode != "fresh")
    state(found[1])


def test_a_conftest_that_changes_its_process_or_shares_memory_is_not_forked_from(python_lane: Lane) -> None:
    """Tests would share this memory, and such settings could not be distinguished from changes by a test."""
    lane = python_lane
    conftests = {
        "limits": "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (60, 60))",
        "nice": "import os; os.nice(3)",
        "memory": "import mmap; shared = mmap.mmap(-1, 4096)",
    }
    for folder, text in conftests.items():
        (lane.project / folder).mkdir()
        (lane.project / folder / "conftest.py").write_text(text + "\n")
    tests = [lane.pytest("pass", folder=folder) for folder in conftests]
    found = lane.run(*tests, lane.pytest("pass"))
    assert [outcome(e, t) for e, t in zip(found, tests, strict=False)] == [Outcome.PASSED] * 3
    assert [e.slot.launch for e in found] == [*[Launch.PROCESS] * 3, Launch.FORKED]
    why = [e.slot.note or "" for e in found[:3]]
    assert "changed their process: resource limits" in why[0]
    assert "changed their process: priority" in why[1]
    assert "share memory with what they start: " in why[2]


def test_an_ordinary_user_can_read_what_is_inherited(python_lane: Lane) -> None:
    """A user of the docker group, who is not the tests' user, may read all of it except the places' modes."""
    if os.geteuid() != 0:
        return  # the tests above cover this
    lane = python_lane
    (evidence,) = lane.run(lane.pytest("pass"))
    pid = lane.engine.inspect(container(evidence)).pid
    assert pid is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            guard = InitProcessMonitor(pid)
            serving = " ".join(
                number for other in _descendants(pid, 2) if (number := _number_inside(other)) is not None
            )
            assert len(serving.split()) == 2, serving
            assert guard.changed(serving) is None, guard.changed(serving)
            assert set(guard._servers[0].state()) == set(guard._first)
            assert len(guard._first) >= 5
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

"""Reused slots on a real engine: tests that share a container, and tests that try to poison it (FAULTS H18)."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.hardening import Surroundings
from orchestrator.engine.labels import Owner, run_filter
from orchestrator.engine.local import LocalExecutor
from orchestrator.engine.meter import Meter
from orchestrator.measure import turns
from orchestrator.measure.cgroups import AGENT_FILES_V1, AGENT_FILES_V2
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model import Outcome, ResultsFormat
from orchestrator.stopping import StopFlag
from orchestrator.verdict.outcome import decide
from tests.handmade import OPEN_SECCOMP, make_assignment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.engine.base import Engine
    from orchestrator.engine.docker import DockerEngine
    from orchestrator.model import Assignment, Evidence

pytestmark = pytest.mark.docker
MIB = 1 << 20
LATE_SECONDS = 0.6
PRISTINE = (
    "set -e; for place in /tmp /dev/shm $ORCH_OUTPUT_DIR /dev/mqueue; do"
    ' test -z "$(ls -A $place)" || { echo "$place: $(ls -A $place)"; exit 9; }; done;'
    ' test "$(ls -d /proc/[0-9]* | wc -l)" -le 6;'
    ' for table in shm sem msg; do test "$(wc -l </proc/sysvipc/$table)" = 1; done;'
    ' test "$(ulimit -n)" = 256; test "$(umask)" = 0022; test "$PWD" = /work; test -z "$POISON";'
    " test \"$(sed 's/.*) //' /proc/self/stat | cut -d' ' -f17)\" = 0"
)
"""A test that passes only where it sees nothing of an earlier one."""


class Lane:
    """Runs tests one after another, each known before the one in front of it has ended."""

    def __init__(self, engine: Engine, image: str, folder: Path, sampler: Sampler) -> None:
        self.engine = engine
        self.run_id = str(uuid.uuid4())
        self._folder = folder
        project, work = folder / "project", folder / "work"
        project.mkdir()
        work.mkdir()
        self.work = work
        version_2 = engine.info.cgroup_version == 2
        self.executor = LocalExecutor(
            engine,
            around=Surroundings(
                project_root=project,
                state_dir=None,
                seccomp=OPEN_SECCOMP,
                counters=AGENT_FILES_V2 if version_2 else AGENT_FILES_V1,
                next_counters=turns.AGENT_FILES_V2 if version_2 else turns.AGENT_FILES_V1,
            ),
            owner=Owner(run_id=self.run_id, token=owner_token(), place=str(work)),
            images={"tiny": image},
            sampler=sampler,
            stop=StopFlag(),
            work_dir=work,
        )
        self._lane = self.executor.lane()
        self._lanes = [self._lane]

    def next_lane(self) -> None:
        """What is run from now on is run in a new lane; the containers of the one before stay."""
        self._lane = self.executor.lane()
        self._lanes.append(self._lane)

    def test(self, text: str, *, program: tuple[str, ...] = ("sh", "-c"), **changes: Any) -> Assignment:
        path = f"t{uuid.uuid4().hex[:8]}.sh"
        return make_assignment(*program, text, run_id=self.run_id, path=path, **{"reuse": 10, **changes})

    def run(self, *assignments: Assignment) -> list[Evidence]:
        found = []
        for assignment, following in zip(assignments, (*assignments[1:], None), strict=True):
            evidence = self._lane.run(assignment, time.monotonic(), self._place, lambda next_=following: next_)
            found.append(evidence)
        return found

    def _place(self, assignment: Assignment) -> Path:
        place = self._folder / f"{assignment.test.id.path}-{assignment.attempt}"
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
def late_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orch looks at a container between two tests later than it would: as on a busy machine."""
    look = Meter.look_between

    def late(self: Meter) -> turns.Look | None:
        time.sleep(LATE_SECONDS)  # an agent that did not wait would have ended long before
        return look(self)

    monkeypatch.setattr(Meter, "look_between", late)


def test_tests_share_a_container_and_nothing_else(lane: Lane) -> None:
    tests = [lane.test(f"echo out {n}; echo err {n} >&2; {PRISTINE}") for n in range(12)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 12
    assert [e.slot.position for e in found] == [*range(1, 11), 1, 2]
    assert len({container(e) for e in found[:10]}) == 1
    assert container(found[10]) != container(found[0])
    assert [e.stdout.tail for e in found] == [b"out %d\n" % n for n in range(12)]
    assert [e.stderr.tail for e in found] == [b"err %d\n" % n for n in range(12)]
    # the last test of a container is told apart by the engine's word that it has ended, the others by that it runs
    assert [e.kept for e in found] == [*[True] * 9, False, True, True]
    for evidence in found:
        assert evidence.agent is not None
        assert evidence.usage.cpu_seconds is not None
        assert evidence.usage.memory_peak_bytes is not None


def test_each_has_figures_of_its_own(lane: Lane) -> None:
    burn = "i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done"
    fill = "dd if=/dev/zero of=/tmp/x bs=1M count=12 2>/dev/null"
    light, heavy, large, again = lane.run(lane.test(":"), lane.test(burn), lane.test(fill), lane.test(":"))
    assert {container(e) for e in (light, heavy, large, again)} == {container(light)}
    cpu = [e.usage.cpu_seconds or 0.0 for e in (light, heavy, again)]
    assert cpu[1] > 10 * max(cpu[0], cpu[2])
    peaks = [e.usage.memory_peak_bytes or 0 for e in (light, large, again)]
    assert peaks[1] >= 12 * MIB
    assert max(peaks[0], peaks[2]) < 6 * MIB  # what an earlier one needed is not the next one's
    assert not again.usage.memory_peak_is_upper_bound


@pytest.mark.usefixtures("late_looks")
def test_a_container_that_ends_is_looked_at_first(lane: Lane) -> None:
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


@pytest.mark.usefixtures("late_looks")
def test_the_next_one_begins_without_us(lane: Lane) -> None:
    say_when = "read up rest </proc/uptime; echo $up"
    fill = "dd if=/dev/zero of=/dev/null bs=12M count=1 2>/dev/null;"
    tests = [lane.test(f"{prefix} {say_when}") for prefix in ("", fill, "", "echo e >&2;", "")]
    found = lane.run(*tests)
    assert len({container(e) for e in found}) == 1
    assert [e.stderr.tail for e in found] == [b"", b"", b"", b"e\n", b""]
    times = [float(e.stdout.tail) for e in found]
    assert times[1] - times[0] < LATE_SECONDS  # so long took the look between them
    # who looked too late says so: what the second one needed may be in the third one's figure
    peaks = [(e.usage.memory_peak_bytes or 0, e.usage.memory_peak_is_upper_bound) for e in found]
    assert peaks[1][0] >= 11.5 * MIB  # the kernel charges in lots of 256 KiB
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
def test_what_a_test_leaves_is_gone_for_the_next(lane: Lane, poison: str) -> None:
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
def test_a_container_that_cannot_be_cleaned_is_thrown_away(python_lane: Lane, poison: str) -> None:
    lane, python = python_lane, ("python3", "-c")
    tests = [lane.test(PRISTINE), lane.test(poison, program=python), lane.test(PRISTINE), lane.test(PRISTINE)]
    found = lane.run(*tests)
    assert [outcome(e, t) for e, t in zip(found, tests, strict=True)] == [Outcome.PASSED] * 4
    assert container(found[0]) == container(found[1]) != container(found[2]) == container(found[3])


def test_a_message_queue_is_seen(python_lane: Lane) -> None:
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


def test_a_container_that_waits_is_another_lanes_too(lane: Lane) -> None:
    first, other, again = lane.test(PRISTINE), lane.test(PRISTINE, pids=32), lane.test(PRISTINE)
    (one, _) = lane.run(first, other)
    lane.next_lane()
    (two,) = lane.run(again)
    assert outcome(two, again) is Outcome.PASSED
    assert container(two) == container(one)
    assert two.slot.position == 2


def test_a_container_that_dies_while_it_waits_is_no_tests_trouble(lane: Lane) -> None:
    first, other, again = lane.test(PRISTINE), lane.test(PRISTINE, pids=32), lane.test(PRISTINE)
    (one, _) = lane.run(first, other)
    lane.engine.kill(container(one))
    lane.engine.wait(container(one), 10)
    (two,) = lane.run(again)
    assert outcome(two, again) is Outcome.PASSED
    assert container(two) != container(one)
    assert two.slot.position == 1


def test_other_limits_get_another_container(lane: Lane) -> None:
    one, two = lane.run(lane.test(":"), lane.test(":", pids=32))
    assert container(one) != container(two)


def test_a_second_attempt_has_a_container_to_itself(lane: Lane) -> None:
    one, two = lane.run(lane.test(":"), lane.test(":", attempt=2))
    assert container(one) != container(two)
    assert (two.slot.position, two.kept) == (1, False)

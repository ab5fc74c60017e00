from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.evidence import (
    AgentRecord,
    Evidence,
    Launch,
    LeftoverFiles,
    LeftoverIpc,
    LeftoverProcess,
    SlotUse,
)
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Network, Profile
from orchestrator.model.usage import Sample, Usage
from orchestrator.model.violations import Violation, ViolationKind
from orchestrator.verdict.violations import violations
from tests.unit.verdict.test_violations import MIB, PROFILE, found, kinds, seen


def growing(figure: str, *, per_second: float, seconds: float = 4.0, start: int = 10) -> Evidence:
    """A test in which one figure grows from its start to its end."""
    samples = tuple(
        Sample(at_seconds=at / 10, **{figure: int(start + per_second * at / 10)})  # type: ignore[arg-type]
        for at in range(1, int(seconds * 10))
    )
    return seen(seconds=seconds, samples=samples)


def left(**fields: object) -> Evidence:
    return seen(agent=AgentRecord(exit_code=0, **fields))  # type: ignore[arg-type]


def test_open_files_that_grow_to_the_end() -> None:
    (leak,) = found(growing("process_open_files_max", per_second=50), time_near_ratio=None)
    assert (leak.kind, leak.severity, leak.unit, leak.limit) == (ViolationKind.FD_LEAK, "warning", "count", 20)
    assert leak.measured == pytest.approx(90, abs=6)
    assert "grew steadily to the end: from 10" in leak.message
    assert "50 per second" in leak.message
    assert "1024" in leak.message


def test_threads_that_grow_to_the_end() -> None:
    evidence = growing("process_threads_max", per_second=6)
    assert kinds(evidence, time_near_ratio=None) == ["thread-leak warning"]
    assert kinds(evidence, time_near_ratio=None, threads_growth=20) == []
    assert kinds(evidence, time_near_ratio=None, threads_growth=None) == []


def test_growth_of_all_processes_together_is_no_leak_of_one() -> None:
    """More and more processes have more and more files, and that is what the pids limit is for."""
    assert kinds(growing("open_files", per_second=50), time_near_ratio=None) == []
    assert kinds(growing("threads", per_second=50), time_near_ratio=None) == []


def test_memory_growth_is_reported_with_the_time_until_the_limit() -> None:
    (growth,) = found(growing("anon_bytes", per_second=20 * MIB, start=MIB), time_near_ratio=None)
    assert (growth.kind, growth.severity) == (ViolationKind.MEMORY_GROWTH, "notice")
    assert growth.limit == 32 * MIB
    assert "at that rate it reaches its limit of 128 MiB after another 2.5" in growth.message


def test_samples_from_the_last_moments_do_not_count() -> None:
    evidence = growing("process_open_files_max", per_second=50)
    last = Sample(at_seconds=3.99, process_open_files_max=3)
    assert kinds(replace(evidence, samples=(*evidence.samples, last)), time_near_ratio=None) == ["fd-leak warning"]


FILES = LeftoverFiles(
    place="/tmp",
    entries=40,
    names=("a", "b\x1b[2J", "c", "d", "e"),
    used_bytes=2 * MIB,
    size_bytes=64 * MIB,
    used_inodes=41,
    size_inodes=1000,
)


def test_many_files_or_large_ones_left() -> None:
    (many,) = found(left(places=(FILES,)))
    assert (many.kind, many.severity, many.measured, many.limit) == (ViolationKind.FILE_LEAK, "notice", 40, 16)
    assert many.message == r"left 40 entries in /tmp, 2 MiB in all: a, b\x1b[2J, c and 37 more"
    (large,) = found(left(places=(replace(FILES, entries=3, used_bytes=20 * MIB),)))
    assert (large.kind, large.measured, large.limit, large.unit) == (
        ViolationKind.FILE_LEAK,
        20 * MIB,
        16 * MIB,
        "bytes",
    )
    assert kinds(left(places=(replace(FILES, entries=16),))) == []
    assert kinds(left(places=(FILES,)), files_left=None) == []
    assert kinds(left(places=(replace(FILES, used_bytes=None, size_bytes=None),)), files_left=None) == []


def test_what_pytest_keeps_is_no_leak() -> None:
    own = replace(FILES, entries=1, names=("pytest-of-testuser",), used_bytes=50 * MIB)
    assert kinds(left(places=(own,))) == []
    assert kinds(left(places=(replace(own, entries=2, names=(*own.names, "mine")),))) == ["file-leak notice"]


def test_ipc_left() -> None:
    evidence = left(
        ipc=(
            LeftoverIpc(kind="shm", name="3", amount=MIB),
            LeftoverIpc(kind="sem", name="0", amount=2),
            LeftoverIpc(kind="mqueue", name="jobs"),
        ),
        places=(LeftoverFiles(place="/dev/shm", entries=7, names=("sem.a", "psm_b")),),
    )
    (leak,) = found(evidence)
    assert (leak.kind, leak.severity, leak.measured) == (ViolationKind.IPC_LEAK, "warning", 10)
    assert leak.message == (
        "left 10 shared memory or IPC objects: shared memory segment 3 (1 MiB), semaphore set 0, "
        "message queue jobs and 7 more"
    )


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.FAILED, ["process-leak warning", "file-leak notice", "ipc-leak warning"]),
        (Outcome.CRASHED, ["process-leak warning"]),
        (Outcome.OOM, ["memory-over error", "process-leak warning"]),
        (Outcome.TIMEOUT, ["time-over error"]),
        (Outcome.INFRA, []),
    ],
)
def test_a_killed_test_has_fewer_leaks_because_it_could_not_clean_up(
    outcome: Outcome, expected: list[str]
) -> None:
    evidence = left(
        leftovers=(LeftoverProcess(pid=5, command_line="sleep 9"),),
        places=(FILES,),
        ipc=(LeftoverIpc(kind="sem", name="0"),),
    )
    assert kinds(evidence, outcome) == expected


@pytest.mark.parametrize(
    ("change", "expected", "part"),
    [
        ({"used_bytes": 64 * MIB}, "error", "/tmp is full and refuses further writes at the test's end: 64 MiB"),
        ({"used_bytes": 60 * MIB}, "warning", "/tmp is 94 % full at the test's end: 60 MiB of 64 MiB"),
        (
            {"used_inodes": 1000},
            "error",
            "is full and refuses further writes at the test's end: 1000 files of 1000",
        ),
        ({"used_inodes": 900}, "warning", "90 % full"),
    ],
)
def test_a_full_place(change: dict[str, int], expected: str, part: str) -> None:
    evidence = left(places=(replace(FILES, **change),))
    (full,) = found(evidence, files_left=None, files_left_bytes=None)
    assert (full.kind, full.severity) == (ViolationKind.TMPFS_FULL, expected)
    assert part in full.message
    assert kinds(evidence, files_left=None, files_left_bytes=None, tmpfs_near_ratio=None) == []


def test_a_place_that_may_have_been_full_for_some_time_gives_a_notice() -> None:
    assert kinds(seen(Usage(shmem_peak_bytes=MIB))) == ["tmpfs-full notice"]
    assert kinds(seen(Usage(shmem_peak_bytes=MIB // 2))) == []
    assert kinds(seen(Usage(shmem_peak_bytes=100 * MIB))) == []  # more than all places hold: it was no file


def test_disk_writes() -> None:
    assert kinds(seen(Usage(write_bytes=16 * MIB))) == []
    (written,) = found(seen(Usage(write_bytes=17 * MIB)))
    assert (written.kind, written.severity) == (ViolationKind.DISK_WRITE, "warning")
    assert written.message == "wrote 17 MiB to disk; the threshold is 16 MiB"
    assert kinds(seen(Usage(write_bytes=17 * MIB)), disk_write_bytes=None) == []


# ---------------------------------------------------------------- profiles that are too large

MODEST = Usage(memory_peak_bytes=30 * MIB, cpu_seconds=0.3, pids_peak=4)


def profile_of(name: str, **limits: float) -> Profile:
    return replace(PROFILE, name=name, limits=replace(PROFILE.limits, **limits))  # type: ignore[arg-type]


LARGE = profile_of("large", memory_bytes=1024 * MIB, timeout_seconds=60.0, cpus=2.0)
OTHERS = (LARGE, profile_of("middle", memory_bytes=512 * MIB, timeout_seconds=10.0), PROFILE)


def sized(usage: Usage = MODEST, outcome: Outcome = Outcome.PASSED, **changes: object) -> tuple[Violation, ...]:
    others = changes.pop("others", OTHERS)
    profile = changes.pop("profile", LARGE)
    return violations(seen(usage, **changes), profile=profile, outcome=outcome, others=others)  # type: ignore[arg-type]


def test_a_profile_that_is_far_too_large() -> None:
    (notice,) = sized()
    assert (notice.kind, notice.severity, notice.unit) == (ViolationKind.OVERSIZED, "notice", "ratio")
    assert notice.measured == pytest.approx(0.0586, abs=1e-3)
    assert "what middle grants (512 MiB, 10 s, 100 tasks)" in notice.message  # the next smaller, not the smallest


def test_no_notice_without_margin() -> None:
    assert sized(replace(MODEST, memory_peak_bytes=257 * MIB)) == ()
    assert sized(seconds=5.1) == ()
    assert sized(replace(MODEST, cpu_seconds=5.1)) == ()  # on its one CPU that takes 5.1 s
    assert sized(replace(MODEST, pids_peak=51)) == ()


def test_a_forked_test_needs_a_runner_of_its_own_where_containers_are_not_reused() -> None:
    usage = replace(MODEST, memory_peak_bytes=8 * MIB, memory_floor_bytes=33 * MIB)
    forked = SlotUse(launch=Launch.FORKED)
    tiny = profile_of("tiny", memory_bytes=16 * MIB)
    (notice,) = sized(usage, profile=PROFILE, others=(replace(tiny, reuse=1000),), slot=forked)
    assert notice.measured == 0.5
    assert sized(usage, profile=PROFILE, others=(tiny,), slot=forked) == ()  # 41 MiB would not fit
    (notice,) = sized(usage, profile=PROFILE, others=(tiny,))  # a process of its own, which needs 8 MiB
    assert notice.measured == 0.5


def test_no_notice_where_nothing_is_known_or_nothing_is_smaller() -> None:
    assert sized(replace(MODEST, memory_peak_bytes=None)) == ()
    assert sized(replace(MODEST, cpu_seconds=None)) == ()
    assert sized(outcome=Outcome.FAILED) == ()
    assert sized(others=()) == ()
    assert sized(profile=PROFILE) == ()
    thresholds = replace(LARGE.thresholds, oversized_ratio=None)
    assert sized(profile=replace(LARGE, thresholds=thresholds)) == ()


def test_a_profile_of_another_image_or_network_is_no_smaller_one() -> None:
    for other in (
        replace(PROFILE, image="full"),
        replace(PROFILE, network=Network.BRIDGE),
        replace(PROFILE, capabilities=("SYS_PTRACE",)),
        profile_of("more-files", nofile=4096),
    ):
        assert sized(others=(LARGE, other)) == ()


def test_growth_is_by_the_time_in_which_the_test_could_run() -> None:
    """A second of work that takes four on a busy machine has not kept growing for two."""
    evidence = growing("process_open_files_max", per_second=30)
    assert kinds(evidence, time_near_ratio=None) == ["fd-leak warning"]
    assert kinds(replace(evidence, cpu_waited_seconds=3.3), time_near_ratio=None) == []

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.model.evidence import AgentRecord, Evidence, LeftoverProcess, OutputLog, Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile, Thresholds
from orchestrator.model.usage import Usage
from orchestrator.model.violations import Severity, Violation, ViolationKind
from orchestrator.verdict.violations import violations

MIB = 1 << 20
LOG = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
PROFILE = Profile(
    name="fast",
    limits=Limits(
        cpus=1.0,
        memory_bytes=128 * MIB,
        timeout_seconds=2.0,
        tmpfs_bytes=MIB,
        tmpfs_inodes=1000,
        outputs_bytes=MIB,
        shm_bytes=MIB,
        pids=100,
        nofile=1024,
        log_bytes=4 * MIB,
    ),
    network=Network.NONE,
    image="isolation",
)


def seen(usage: Usage | None = None, *, seconds: float = 0.5, **changes: object) -> Evidence:
    evidence = Evidence(
        agent=AgentRecord(exit_code=0),
        engine=None,
        usage=usage or Usage(),
        stdout=LOG,
        stderr=LOG,
        timings=Timings(test_seconds=seconds),
        started_at=datetime(2026, 11, 21, tzinfo=UTC),
    )
    return replace(evidence, **changes)


def found(
    evidence: Evidence, outcome: Outcome = Outcome.PASSED, **thresholds: float | None
) -> tuple[Violation, ...]:
    return violations(evidence, profile=replace(PROFILE, thresholds=Thresholds(**thresholds)), outcome=outcome)


def kinds(evidence: Evidence, outcome: Outcome = Outcome.PASSED, **thresholds: float | None) -> list[str]:
    return [f"{v.kind.value} {v.severity.value}" for v in found(evidence, outcome, **thresholds)]


def test_figures_that_were_not_measured_break_no_budget() -> None:
    assert found(seen()) == ()


def test_a_modest_test_breaks_nothing() -> None:
    usage = Usage(
        cpu_seconds=0.4,
        memory_peak_bytes=100 * MIB,
        anon_peak_bytes=90 * MIB,
        pids_peak=89,
        oom_kills=0,
        pids_limit_hits=0,
        throttled_seconds=0.1,
    )
    assert found(seen(usage), cpu_seconds=0.4) == ()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(memory_peak_bytes=115 * MIB), []),
        (Usage(memory_peak_bytes=116 * MIB), ["memory-near warning"]),
        (Usage(memory_peak_bytes=128 * MIB), ["memory-over warning"]),
        (Usage(memory_peak_bytes=129 * MIB, memory_peak_is_upper_bound=True), []),
        (Usage(memory_peak_bytes=128 * MIB, memory_peak_is_lower_bound=True), ["memory-over warning"]),
        (Usage(memory_peak_bytes=128 * MIB, oom_kills=1), ["memory-over warning", "child-oom error"]),
        (Usage(memory_peak_bytes=126 * MIB, oom_kills=1), ["memory-over warning", "child-oom error"]),
        # what fills the limit beside it is page cache, which the kernel takes back
        (Usage(memory_peak_bytes=9 * MIB, memory_charged_peak_bytes=128 * MIB, page_cache_bytes=118 * MIB), []),
    ],
)
def test_memory(usage: Usage, expected: list[str]) -> None:
    assert kinds(seen(usage)) == expected


def test_memory_sentences() -> None:
    (near,) = found(seen(Usage(memory_peak_bytes=120 * MIB)))
    assert near.message == "memory reached 94 % of its limit: 120 MiB of 128 MiB"
    assert (near.measured, near.limit, near.unit) == (120 * MIB, 128 * MIB, "bytes")


@pytest.mark.parametrize("peak", [None, 40 * MIB, 128 * MIB])
def test_an_oom_kill_is_over_the_limit_whatever_the_peak(peak: int | None) -> None:
    (over,) = found(seen(Usage(memory_peak_bytes=peak, anon_peak_bytes=MIB, oom_kills=1)), Outcome.OOM)
    assert (over.kind, over.severity) == (ViolationKind.MEMORY_OVER, Severity.ERROR)
    assert "128 MiB and was killed by the kernel" in over.message


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.FAILED])
def test_a_killed_child_process_is_always_reported(outcome: Outcome) -> None:
    (child,) = found(seen(Usage(oom_kills=2)), outcome)
    assert (child.kind, child.severity, child.measured) == (ViolationKind.CHILD_OOM, Severity.ERROR, 2)
    assert "killed 2 processes" in child.message
    assert f"ended as {outcome.value}" in child.message


def test_cpu() -> None:
    usage = Usage(cpu_seconds=1.25, throttled_seconds=0.2)
    assert kinds(seen(usage)) == ["cpu-throttled warning"]
    assert kinds(seen(usage), cpu_seconds=1.2) == ["cpu-budget warning", "cpu-throttled warning"]
    assert kinds(seen(usage), throttled_ratio=0.4) == []
    assert kinds(seen(usage), throttled_ratio=None) == []
    assert kinds(seen(usage, seconds=0.0)) == []
    budget, throttled = found(seen(usage), cpu_seconds=1.2)
    assert budget.message == "used 1.25 s of CPU time; its budget is 1.2 s"
    assert throttled.message == "was throttled for 200 ms (summed over CPUs) of 500 ms by its limit of 1 CPUs"
    assert throttled.measured == pytest.approx(0.4)


def test_time() -> None:
    assert kinds(seen(seconds=1.79)) == []
    assert kinds(seen(seconds=1.8)) == ["time-near warning"]
    assert kinds(seen(seconds=1.8), time_near_ratio=None) == []
    assert kinds(seen(seconds=2.1), Outcome.TIMEOUT) == ["time-over error"]
    assert kinds(seen(Usage(oom_kills=1), seconds=2.1, timed_out=True), Outcome.OOM) == [
        "memory-over error",
        "time-over error",
    ]
    assert found(seen(seconds=1.9))[0].message == "took 95 % of its time limit: 1.9 s of 2 s"


def test_pids() -> None:
    assert kinds(seen(Usage(pids_peak=90))) == ["pids-limit warning"]
    assert kinds(seen(Usage(pids_peak=99)), pids_near_ratio=None) == []
    (refused,) = found(seen(Usage(pids_peak=40, pids_limit_hits=3)))
    assert (refused.severity, refused.measured, refused.limit) == (Severity.ERROR, 100, 100)
    assert refused.message == "was refused a new process or thread 3 times at its limit of 100"


def test_leftover_processes_are_named_safely() -> None:
    names = ["sleep 1000", "evil\x1b[2J\nname", "x" * 5000, "fourth"]
    leftovers = tuple(LeftoverProcess(pid=n, command_line=name) for n, name in enumerate(names, 10))
    evidence = seen(agent=AgentRecord(exit_code=0, leftovers=leftovers))
    (leak,) = found(evidence)
    assert (leak.kind, leak.measured) == (ViolationKind.PROCESS_LEAK, 4)
    assert leak.message.startswith(
        r"left 4 processes running: sleep 1000 (pid 10), evil\x1b[2J\nname (pid 11), xxx"
    )
    assert leak.message.endswith("and 1 more")
    assert leak.message.isprintable()
    assert len(leak.message) < 300
    assert kinds(evidence, Outcome.TIMEOUT) == ["time-over error"]  # it had no chance to end them


def test_output() -> None:
    cut = OutputLog(path=None, total_bytes=50 * MIB, kept_bytes=4 * MIB, tail=b"")
    (flood,) = found(seen(stderr=cut))
    assert (flood.measured, flood.limit) == (50 * MIB, 4 * MIB)
    assert flood.message == "wrote 50 MiB to stderr: only 4 MiB were kept"
    whole = OutputLog(path=None, total_bytes=MIB, kept_bytes=MIB, tail=b"")
    assert kinds(seen(stdout=whole, stderr=whole), log_bytes=2 * MIB) == []
    assert kinds(seen(stdout=whole, stderr=whole), log_bytes=2 * MIB - 1) == ["output-flood warning"]
    assert kinds(seen(stdout=cut), log_bytes=1) == ["output-flood warning"]


def test_engine_objects() -> None:
    (leak,) = found(seen(leaked_objects=("volume abc",)))
    assert leak.message == "left 1 engine object: volume abc"
    assert leak.severity is Severity.ERROR


@pytest.mark.parametrize("outcome", [Outcome.INFRA, Outcome.INTERRUPTED])
def test_without_a_conclusive_outcome_only_leaked_objects_are_reported(outcome: Outcome) -> None:
    usage = Usage(memory_peak_bytes=200 * MIB, oom_kills=1, pids_limit_hits=1)
    evidence = seen(usage, seconds=9.0, leaked_objects=("container x",))
    assert kinds(evidence, outcome) == ["object-leak error"]


def test_time_in_which_others_had_the_cpus_does_not_count() -> None:
    near = violations(seen(seconds=1.95), profile=PROFILE, outcome=Outcome.PASSED)
    assert [violation.kind for violation in near] == [ViolationKind.TIME_NEAR]
    usage = Usage(cpu_seconds=0.4)
    assert (
        violations(seen(usage, seconds=9.0, cpu_waited_seconds=8.0), profile=PROFILE, outcome=Outcome.PASSED) == ()
    )
    (over,) = violations(
        seen(usage, seconds=9.0, cpu_waited_seconds=7.0, timed_out=True), profile=PROFILE, outcome=Outcome.TIMEOUT
    )
    assert over.message == "did not end within its time limit of 2 s; host busy: 0.4 s of CPU in 9 s"
    assert over.measured == 2.0

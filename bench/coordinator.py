"""CPU seconds that orch itself uses for a test, without the engine, and whether its memory stays constant.

Passing tests without output go through the coordinator's own code (scheduler, verdict, folders, events, lines to a
pipe, the database on disk). An executor without containers returns the evidence of a reused slot. `--stages`
measures each stage by the CPU clock of its thread, which itself costs 1 to 2 µs a stage.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from orchestrator.config.loader import load_config
from orchestrator.coordinator import executor as execute
from orchestrator.coordinator import recorder, run_folder
from orchestrator.coordinator.options import RunOptions
from orchestrator.coordinator.output import progress as run_progress
from orchestrator.coordinator.output import report_files, run_output
from orchestrator.database.rows import bundles
from orchestrator.database.store.store import Database
from orchestrator.measure.calibration import Calibration, corrected
from orchestrator.measure.counters import parse_v1
from orchestrator.measure.reused_slot import (
    AGENT_FILES_V1,
    CounterSnapshot,
    SnapshotWindow,
    agent_counters,
    window_usage,
)
from orchestrator.model.evidence import (
    AgentRecord,
    Attestation,
    EngineState,
    Evidence,
    OutputLog,
    SlotUse,
    Timings,
)
from orchestrator.model.runs import Ledger, Run, RunStatus
from orchestrator.model.tests import Assignment, Command, Test, TestId
from orchestrator.model.usage import Source
from orchestrator.reports.run_summary import ResultTotals, RunSummary
from orchestrator.scheduling import scheduler
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.events import Policy
from orchestrator.stop_flag import StopFlag
from tests.support.handmade import ENGINE, HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.model.usage import Usage

GOAL_SECONDS = 0.35e-3
FIRST = 1000
"""Memory is compared after this many tests and at the end."""
SLOTS = 2
_SLOT = {
    "cpuacct.usage_user": "{cpu}",
    "cpuacct.usage_sys": "{cpu}",
    "cpu.stat": "nr_periods 3\nnr_throttled 0\nthrottled_time 0\nnr_bursts 0\nburst_time 0\n",
    "memory.usage_in_bytes": "1310720\n",
    "memory.max_usage_in_bytes": "2519040\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    "pids.peak": "4\n",
    "pids.events": "max 0\n",
    "blkio.throttle.io_service_bytes_recursive": "Total 0\n",
}
"""The files of a slot's cgroup v1, as they are read between two tests."""
_CALIBRATION = Calibration(
    runs=5,
    source=Source.AGENT,
    cpu_seconds=0.0004,
    cpu_user_seconds=None,
    cpu_system_seconds=None,
    cpu_spread_seconds=0.0001,
    memory_floor_bytes=1310720,
    memory_rise_bytes=65536,
    start_cpu_seconds=0.02,
    start_memory_peak_bytes=9_000_000,
    start_pids_peak=6,
)


class Stages:
    """The CPU seconds of each stage, by the clock of its thread."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, place: Any, name: str, stage: str) -> None:
        """Replace a function by one whose CPU time is added to a stage."""
        inner = getattr(place, name)

        @functools.wraps(inner)
        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return inner(*arguments, **named)
            finally:
                self.seconds[stage] += time.thread_time() - began

        setattr(place, name, measured)


class ReadyExecutor:
    """An executor without containers, in place of `LocalExecutor`."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def lane(self, calibrations: object) -> ReadyLane:  # noqa: ARG002 - ReadyLane has one of its own
        """Return a lane with a slot of its own."""
        return ReadyLane(next(self._numbers))


class ReadyLane:
    """A lane without a container, in place of `SlotLane`; it parses and combines counters as for a reused slot."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._position = 0
        self._before = CounterSnapshot(parse_v1(_files(0)), None, True)

    def run(
        self,
        assignment: Assignment,
        waits_since: float,
        folder_of: Callable[[Assignment], Path],
        upcoming: Callable[[], Assignment | None],
    ) -> Evidence:
        """Return the evidence of a passing test without output."""
        folder_of(assignment)
        self._position = position = self._position + 1
        began = datetime.now(UTC)
        used = self.figures(position)
        upcoming()
        return Evidence(
            agent=AgentRecord(exit_code=0),
            engine=EngineState(status="running"),
            kept=True,
            usage=used,
            stdout=OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b""),
            stderr=OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b""),
            timings=Timings(
                queue_seconds=time.monotonic() - waits_since, test_seconds=0.004 + position % 10 / 10_000
            ),
            started_at=began,
            attestation=self.attested(self._number, position),
            slot=SlotUse(position=position),
        )

    def close(self) -> None:
        """Do nothing: there is no container."""

    def attested(self, thread: int, position: int) -> Attestation:
        """Return a new attestation, as an executor that reads it for each test would."""
        name = f"orch-4886ef27-slot-{thread}-{position // 100}"
        return Attestation(
            container_name=name,
            container_id=name.encode().hex(),
            image_id="sha256:" + "a6" * 32,
            limits_from_kernel=True,
            effective_memory_bytes=134217728,
            effective_cpus=1.0,
            effective_pids=64,
            network="none",
            seccomp="profile",
            read_only_root=True,
            user="1001:1001",
            capabilities_effective="0000000000000000",
            capabilities_bounding="0000000000000000",
            no_new_privileges=True,
            seccomp_mode=2,
            engine="docker 20.10.24",
            kernel="6.18",
            cgroup_version=1,
        )

    def figures(self, position: int) -> Usage:
        """Return the usage between two readings of the slot's cgroup and two readings of the agent."""
        cpu = 20_000_000 + 3_000_000 * position
        before, self._before = self._before, CounterSnapshot(parse_v1(_files(cpu)), 2_519_040, True)
        return corrected(
            window_usage(
                SnapshotWindow(
                    agent_before=agent_counters(_agent(cpu - 2_500_000)),
                    agent_after=agent_counters(_agent(cpu)),
                    before=before,
                    after=self._before,
                    overlapped=position > 1,
                    next_released=True,
                ),
                (),
            ),
            _CALIBRATION,
        )


def _files(cpu: int) -> dict[str, str]:
    return {**_SLOT, "cpuacct.usage_user": f"{cpu // 2}\n", "cpuacct.usage_sys": f"{cpu // 2}\n"}


def _agent(cpu: int) -> str:
    numbers = (cpu, 2_519_040, 1_306_624)
    return "".join(f"@{path}\n{number}\n" for path, number in zip(AGENT_FILES_V1, numbers, strict=True))


def plan_of(run_id: str, tests: int, folder: Path) -> tuple[tuple[Assignment, ...], Any]:
    """Return a plan of shell tests under the profile `fast`, and the configuration."""
    config = load_config(path=None, start=folder, env={})
    profile = config.profiles["fast"]
    plan = tuple(
        Assignment(
            run_id=run_id,
            test=Test(
                id=TestId(path=f"test/group_{n % 40}/test_number_{n}.test.sh"),
                suite="shell",
                command=Command(argv=("sh", f"test/group_{n % 40}/test_number_{n}.test.sh")),
                size_bytes=100,
            ),
            profile=profile,
            reason="rule profiles.yaml:12 (match test/**)",
        )
        for n in range(tests)
    )
    return plan, replace(config, state_dir=folder / ".orch")


@contextmanager
def into_a_pipe() -> Iterator[None]:
    """Redirect stdout to a program that reads and drops it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        with redirect_stdout(reader.stdin):
            yield


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize()


def reference_seconds() -> float:
    """Return the CPU seconds of a fixed piece of Python.

    Other work on the machine slows it as much as the rest, so that figures of different times can be compared by
    it.
    """
    began = time.process_time()
    for _ in range(200):
        table = {str(n): n for n in range(1000)}
        sorted(table, reverse=True)
    return (time.process_time() - began) / 200


def watch(stages: Stages) -> None:
    """Measure the parts of this benchmark that must be subtracted."""
    stages.time(ReadyLane, "run", "(making the evidence)")
    stages.time(ReadyLane, "figures", "of it: counters and usage")


def watch_each(stages: Stages) -> None:
    """Measure each stage of the coordinator."""
    for place, name, stage in (
        (run_folder.RunFolder, "attempt_folder", "folder of the attempt"),
        (run_folder.RunFolder, "link_by_status", "by-status"),
        (execute, "decide", "verdict"),
        (execute, "violations", "violations"),
        (run_folder.RunFolder, "write_metrics", "metrics"),
        (execute.AttemptRunner, "judge", "the attempt, all after its end"),
        (Database, "record_soon", "database, all"),
        (Database, "_flush", "of it: writing (its thread's too)"),
        (bundles, "result_bundle", "of it: bundle"),
        (ResultTotals, "add", "totals"),
        (report_files.ReportFiles, "add", "report files"),
        (run_progress.RunProgress, "log_events", "events"),
        (run_progress.RunProgress, "finished", "lines"),
        (scheduler.Schedule, "_fill", "fill (with its event)"),
    ):
        stages.time(place, name, stage)


def go(tests: int, folder: Path) -> dict[str, float]:
    """Run all tests and return the figures of the run."""
    run_id = str(uuid.uuid4())
    plan, config = plan_of(run_id, tests, folder)
    this = Run(
        id=run_id,
        started_at=datetime.now(UTC),
        argv=("run",),
        project="bench",
        project_id="bench",
        config_digest="0",
        orch_version="0",
        engine=ENGINE,
        host=HOST,
    )
    sampler: Any = SimpleNamespace(latest=dict)
    figures: dict[str, float] = {}
    with Database.open(None, state_dir=config.state_dir) as database, into_a_pipe():
        kept = run_folder.RunFolder(config.state_dir, this)
        output = run_output.RunOutput(RunOptions(), config)
        progress = output.progress(kept, sampler)
        database.begin_run(this, plan)
        progress.start(this, plan)
        executor: Any = ReadyExecutor()
        keeper = recorder.ResultRecorder(run_id, database=database, folder=kept, progress=progress)
        began, wall = time.process_time(), time.monotonic()
        going = scheduler.schedule(
            plan,
            execute.AttemptRunner(
                executor, kept, profiles=config.profiles, default_profile=config.default_profile
            ),
            budget=Budget(cpus=SLOTS, memory_bytes=8 << 30, slots=SLOTS),
            policy=Policy(),
            stop=StopFlag(),
            profiles=config.profiles,
            on_event=keeper.event,
        )
        for number, result in enumerate(going, 1):
            keeper.result(result)
            if number == min(FIRST, tests):
                figures["resident_first"] = resident_bytes()
        keeper.flush()
        figures["loop_cpu"] = time.process_time() - began
        figures["loop_wall"] = time.monotonic() - wall
        figures["resident_end"] = resident_bytes()
        began = time.process_time()
        summary = RunSummary(
            run=this,
            status=RunStatus.FINISHED,
            totals=keeper.totals,
            duration_seconds=figures["loop_wall"],
            exit_code=0,
        )
        database.finish_run(run_id, status=summary.status, exit_code=0, duration_seconds=1.0, ledger=Ledger())
        output.summary(summary)
        figures["end_cpu"] = time.process_time() - began
    if keeper.totals.counts["passed"] != tests:
        raise SystemExit("not all tests passed, so the figures are not valid")
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return figures


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", type=int, nargs="?", default=2000)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--switch-interval", type=float)
    parser.add_argument("--folder", type=Path, help="on the disk that is to be used; default: the temporary one")
    arguments = parser.parse_args(argv)
    if arguments.switch_interval:
        sys.setswitchinterval(arguments.switch_interval)
    stages = Stages()
    watch(stages)
    if arguments.stages:
        watch_each(stages)
    tests = arguments.tests
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        before = reference_seconds()
        figures = go(tests, Path(folder))
        reference = (before + reference_seconds()) / 2
    own = stages.seconds["(making the evidence)"] - stages.seconds["of it: counters and usage"]
    total = figures["loop_cpu"] - own
    print(f"{tests} tests, CPU ms a test: {total / tests * 1e3:.3f} (goal {GOAL_SECONDS * 1e3:.2f})", end="")
    print(f", summary and reports {figures['end_cpu'] / tests * 1e3:.3f}, wall {figures['loop_wall']:.2f} s")
    print(f"  {'bench: making the evidence, not counted':45} {own / tests * 1e3:7.4f}")
    for stage, seconds in sorted(stages.seconds.items(), key=lambda item: -item[1]):
        if stage != "(making the evidence)":
            print(f"  {stage:45} {seconds / tests * 1e3:7.4f}")
    print(f"  reference: {reference * 1e3:.3f} ms for a fixed piece of Python")
    growth = (figures["resident_end"] - figures["resident_first"]) / max(tests - FIRST, 1)
    print(
        f"  memory: {figures['resident_first'] / 2**20:.1f} MiB at {FIRST} tests, "
        f"{figures['resident_end'] / 2**20:.1f} at {tests}: {growth:.0f} bytes a test; "
        f"peak with reports {figures['peak'] / 2**20:.1f}"
    )
    return 0

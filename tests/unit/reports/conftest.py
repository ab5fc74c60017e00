"""Results as an executor would return them, built from a few words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from orchestrator.model.evidence import AgentRecord, EngineState, Evidence, OutputLog, SlotUse, Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.results import Attempt, TestResult, Verb
from orchestrator.model.runs import Run, RunStatus
from orchestrator.model.tests import Assignment, Command, Test, TestId
from orchestrator.model.usage import Source, Usage
from orchestrator.model.violations import Severity, Violation, ViolationKind
from orchestrator.reports.formats.run_json import test_finished_line as finished_line
from orchestrator.reports.run_summary import ResultTotals, RunSummary
from tests.support.handmade import ENGINE, HOST

STARTED = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)


def limits(memory="512M", timeout=10.0):
    return Limits(
        cpus=2.0,
        memory_bytes=int(memory[:-1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[memory[-1]],
        timeout_seconds=timeout,
        tmpfs_bytes=100 << 20,
        tmpfs_inodes=10_000,
        outputs_bytes=64 << 20,
        shm_bytes=64 << 20,
        pids=128,
        nofile=1024,
        log_bytes=1 << 20,
    )


def profile(name="standard", memory="512M"):
    return Profile(name=name, limits=limits(memory), network=Network.NONE, image="isolation")


def one_test(name="test/test_parse.py", case=None):
    return Test(id=TestId(path=name, case=case), suite="unit", command=Command(argv=("pytest", name)))


def assignment(name="test/test_parse.py", **changes):
    known = {"case": changes.pop("case", None)}
    where = changes.pop("profile", None) or profile()
    return Assignment(
        run_id=RUN.id, test=one_test(name, **known), profile=where, reason="default profile", **changes
    )


def log(data=b"", *, total=None, kept=None):
    total = len(data) if total is None else total
    return OutputLog(path=None, total_bytes=total, kept_bytes=total if kept is None else kept, tail=data[-65536:])


def usage(peak=61 << 20, cpu=0.3, **changes):
    figures = {"memory_peak_bytes": peak, "cpu_seconds": cpu, "pids_peak": 3, "oom_kills": 0, **changes}
    sources = {name: Source.KERNEL for name, value in figures.items() if value is not None}
    missing = {name: "no cgroup files" for name, value in figures.items() if value is None}
    return Usage(**figures, sources=sources, missing=missing)


def attempt(name="test/test_parse.py", outcome="passed", *, message="", stdout=b"", stderr=b"", **changes):
    evidence = Evidence(
        agent=changes.pop("agent", AgentRecord(exit_code=0)),
        engine=EngineState(status="exited", exit_code=0),
        usage=changes.pop("usage", None) or usage(),
        stdout=stdout if isinstance(stdout, OutputLog) else log(stdout),
        stderr=stderr if isinstance(stderr, OutputLog) else log(stderr),
        timings=Timings(queue_seconds=0.5, test_seconds=changes.pop("seconds", 0.412)),
        started_at=STARTED,
        slot=changes.pop("slot", SlotUse()),
    )
    number = changes.pop("attempt", 1)
    fields = {key: changes.pop(key) for key in ("profile", "repetition", "case", "clamped") if key in changes}
    return Attempt(
        id=f"00000000-0000-4000-8000-{number:012d}",
        assignment=assignment(name, attempt=number, **fields),
        outcome=Outcome(outcome),
        message=message,
        exit_code=changes.pop("exit_code", 0 if outcome == "passed" else 1),
        signal=changes.pop("signal", None),
        evidence=evidence,
        **changes,
    )


VERBS = {"passed": "PASS", "failed": "FAIL", "timeout": "TIMEOUT", "oom": "OOM", "crashed": "CRASH"}
VERBS |= {"infra": "INFRA", "interrupted": "STOPPED", "skipped": "SKIP"}


def result(name="test/test_parse.py", outcome="passed", *, verb=None, **changes):
    return of(attempt(name, outcome, **changes), verb=verb)


def of(*attempts, verb=None, flaky=False, outcome=None):
    last = attempts[-1].outcome
    word = verb or ("FLAKY" if flaky else VERBS[last.value])
    return TestResult(attempts=attempts, outcome=Outcome(outcome or last), verb=Verb(word), flaky=flaky)


def violation(kind="child-oom", message="a child was killed, the test exited 0", severity="error"):
    return Violation(
        kind=ViolationKind(kind),
        severity=Severity(severity),
        measured=1.0,
        limit=0.0,
        unit="count",
        message=message,
    )


RUN = Run(
    id="b0b38ba7-1111-4222-8333-444455556666",
    started_at=STARTED,
    argv=("orch", "run", "test/"),
    project="demo",
    project_id="demo",
    config_digest="abc",
    orch_version="0.1.0",
    engine=ENGINE,
    host=HOST,
)


def summary(*results, duration=12.4, exit_code=1, **changes):
    values = {"run": RUN, "status": RunStatus.FINISHED, **changes}
    totals = ResultTotals()
    totals.add(results)
    return RunSummary(totals=totals, duration_seconds=duration, exit_code=exit_code, **values)


def told(report, *results):
    """The report, after it was told of the results."""
    report.add(results)
    return report


def events(path, *results):
    """A run's events' file with the results in it."""
    path.write_text("".join(f"{finished_line(one)}\n" for one in results))
    return path


@pytest.fixture
def build():
    """Builders of model values: `build.result(...)`, `build.summary(...)`, …"""
    return SimpleNamespace(
        replace=replace,
        profile=profile,
        limits=limits,
        assignment=assignment,
        log=log,
        usage=usage,
        attempt=attempt,
        result=result,
        of=of,
        violation=violation,
        summary=summary,
        run=RUN,
        started=STARTED,
    )

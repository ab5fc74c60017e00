"""Results as an executor would return them, built from a few words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from orchestrator import model as m
from orchestrator.reports.digest import Digest, RunSummary
from orchestrator.reports.jsonrun import test_finished_line as finished_line
from tests.handmade import ENGINE, HOST

STARTED = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)


def limits(memory="512M", timeout=10.0):
    return m.Limits(
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
    return m.Profile(name=name, limits=limits(memory), network=m.Network.NONE, image="isolation")


def one_test(name="test/test_parse.py", case=None):
    return m.Test(id=m.TestId(path=name, case=case), suite="unit", command=m.Command(argv=("pytest", name)))


def assignment(name="test/test_parse.py", **changes):
    known = {"case": changes.pop("case", None)}
    where = changes.pop("profile", None) or profile()
    return m.Assignment(
        run_id=RUN.id, test=one_test(name, **known), profile=where, reason="default profile", **changes
    )


def log(data=b"", *, total=None, kept=None):
    total = len(data) if total is None else total
    return m.OutputLog(
        path=None, total_bytes=total, kept_bytes=total if kept is None else kept, tail=data[-65536:]
    )


def usage(peak=61 << 20, cpu=0.3, **changes):
    figures = {"memory_peak_bytes": peak, "cpu_seconds": cpu, "pids_peak": 3, "oom_kills": 0, **changes}
    sources = {name: m.Source.KERNEL for name, value in figures.items() if value is not None}
    missing = {name: "no cgroup files" for name, value in figures.items() if value is None}
    return m.Usage(**figures, sources=sources, missing=missing)


def attempt(name="test/test_parse.py", outcome="passed", *, message="", stdout=b"", stderr=b"", **changes):
    evidence = m.Evidence(
        agent=changes.pop("agent", m.AgentRecord(exit_code=0)),
        engine=m.EngineState(status="exited", exit_code=0),
        usage=changes.pop("usage", None) or usage(),
        stdout=stdout if isinstance(stdout, m.OutputLog) else log(stdout),
        stderr=stderr if isinstance(stderr, m.OutputLog) else log(stderr),
        timings=m.Timings(queue_seconds=0.5, test_seconds=changes.pop("seconds", 0.412)),
        started_at=STARTED,
        slot=changes.pop("slot", m.SlotUse()),
    )
    number = changes.pop("attempt", 1)
    fields = {key: changes.pop(key) for key in ("profile", "repetition", "case", "clamped") if key in changes}
    return m.Attempt(
        id=f"00000000-0000-4000-8000-{number:012d}",
        assignment=assignment(name, attempt=number, **fields),
        outcome=m.Outcome(outcome),
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
    return m.TestResult(attempts=attempts, outcome=m.Outcome(outcome or last), verb=m.Verb(word), flaky=flaky)


def violation(kind="child-oom", message="a child was killed, the test exited 0", severity="error"):
    return m.Violation(
        kind=m.ViolationKind(kind),
        severity=m.Severity(severity),
        measured=1.0,
        limit=0.0,
        unit="count",
        message=message,
    )


RUN = m.Run(
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
    values = {"run": RUN, "status": m.RunStatus.FINISHED, **changes}
    digest = Digest()
    digest.add(results)
    return RunSummary(digest=digest, duration_seconds=duration, exit_code=exit_code, **values)


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

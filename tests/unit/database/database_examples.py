"""Make complete model values for tests of the database, so that a lost column is noticed."""

from __future__ import annotations

import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.files import migrate
from orchestrator.database.files.connect import WRITE, make_engine, parse_url
from orchestrator.database.rollups import daily
from orchestrator.database.rows import bundles
from orchestrator.database.rows.encoding import attempt_id
from orchestrator.database.rows.upserts import insert_or_ignore
from orchestrator.database.schema.tables import metadata
from orchestrator.database.schema.version import APPLICATION_ID
from orchestrator.model.evidence import Attestation, Evidence, OutputLog, Timings
from orchestrator.model.outcomes import CaseOutcome, CaseResult, Outcome
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.results import Attempt, TestResult, Verb
from orchestrator.model.runs import Ledger, Run, RunStatus
from orchestrator.model.tests import Assignment, Command, Test, TestId
from orchestrator.model.usage import Sample, Source, Usage
from orchestrator.model.violations import Severity, Violation, ViolationKind
from tests.support import handmade

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database

LIMITS = Limits(
    cpus=2.0,
    memory_bytes=512 * 2**20,
    timeout_seconds=10.0,
    tmpfs_bytes=100 * 2**20,
    tmpfs_inodes=10_000,
    outputs_bytes=64 * 2**20,
    shm_bytes=16 * 2**20,
    pids=128,
    nofile=1024,
    log_bytes=8 * 2**20,
)
PROFILE = Profile(name="standard", limits=LIMITS, network=Network.NONE, image="isolation")
ENGINE = replace(handmade.ENGINE, warnings=("no swap limit",))
HOST = handmade.HOST
ATTESTATION = Attestation(
    container_name="orch-b0b38ba7-1",
    container_id="f" * 64,
    image_id="sha256:1234",
    effective_memory_bytes=LIMITS.memory_bytes,
    effective_cpus=2.0,
    effective_pids=128,
    network="none",
    capabilities=("SYS_PTRACE",),
    seccomp="0badcafe",
    read_only_root=True,
    user="1001:1001",
)
SAMPLES = tuple(Sample(at_seconds=i / 10, memory_bytes=i * 4096, cpu_seconds=i / 20, pids=1) for i in range(5))
VIOLATION = Violation(
    kind=ViolationKind.MEMORY_NEAR,
    severity=Severity.WARNING,
    measured=500e6,
    limit=512e6,
    unit="bytes",
    message="used 98 % of its memory",
)
NOW = datetime.now(tz=UTC).replace(microsecond=123456)


def make_run(**changes: Any) -> Run:
    facts: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "started_at": NOW,
        "argv": ("orch", "run", "test/"),
        "project": "demo",
        "config_digest": "c0ffee",
        "orch_version": "0.1.0",
        "engine": ENGINE,
        "host": HOST,
        "images": {"isolation": "sha256:1234"},
        "revision": "deadbeef",
        "branch": "main",
        "dirty": False,
    }
    facts |= changes
    return Run(**({"project_id": facts["project"]} | facts))


def make_assignment(
    run: Run, path: str = "test/test_a.py", *, case: str | None = None, **changes: Any
) -> Assignment:
    test = Test(id=TestId(path=path, case=case), suite="unit", command=Command(argv=("pytest", path)))
    facts: dict[str, Any] = {
        "run_id": run.id,
        "test": test,
        "profile": PROFILE,
        "reason": "rule profiles.yaml:3",
    }
    return Assignment(**(facts | changes))


def make_usage(**changes: Any) -> Usage:
    facts: dict[str, Any] = {
        "cpu_seconds": 0.3,
        "cpu_user_seconds": 0.2,
        "cpu_system_seconds": 0.1,
        "memory_peak_bytes": 61 * 2**20,
        "anon_peak_bytes": 50 * 2**20,
        "pids_peak": 4,
        "oom_kills": 0,
        "sources": {"cpu_seconds": Source.KERNEL, "memory_peak_bytes": Source.AGENT},
        "missing": {"swap_peak_bytes": "swap accounting is off"},
    }
    return Usage(**(facts | changes))


def make_attempt(assignment: Assignment, outcome: Outcome = Outcome.PASSED, **changes: Any) -> Attempt:
    """Return an attempt; `changes` may also have fields of its evidence, and `test_seconds`."""
    facts: dict[str, Any] = {
        "agent": None,
        "engine": None,
        "usage": make_usage(),
        "samples": SAMPLES,
        "stdout": OutputLog(path=Path("/x/stdout"), total_bytes=2000, kept_bytes=1000, tail=b""),
        "stderr": OutputLog(path=None, total_bytes=3, kept_bytes=3, tail=b"abc"),
        "outputs": ("report.txt",),
        "timings": Timings(
            queue_seconds=1.0,
            create_seconds=0.01,
            start_seconds=0.07,
            test_seconds=changes.pop("test_seconds", 0.412),
            teardown_seconds=0.02,
        ),
        "started_at": NOW,
        "attestation": ATTESTATION,
    }
    names = {field.name for field in fields(Evidence)} & changes.keys()
    evidence = Evidence(**(facts | {name: changes.pop(name) for name in names}))
    facts = {
        "id": attempt_id(),
        "assignment": assignment,
        "outcome": outcome,
        "message": "" if outcome is Outcome.PASSED else f"it {outcome.value}",
        "exit_code": 0 if outcome is Outcome.PASSED else 1,
        "signal": None,
        "evidence": evidence,
        "violations": (VIOLATION,),
        "cases": (
            CaseResult(name="test_one", outcome=CaseOutcome.PASSED, duration_seconds=0.1),
            CaseResult(name="test_two", outcome=CaseOutcome.XFAILED, message="known"),
        ),
    }
    return Attempt(**(facts | changes))


LATER_IN_ATTEMPTS = ("memory_charged_peak_bytes", "page_cache_bytes", "memory_peak_is_lower_bound")


def write_before_schema_9(connection: sa.Connection, bundle: bundles.Bundle) -> None:
    """Write a run or a result to schema 8, where attempts have no separate memory of their own."""
    for name, rows in bundle.tables.items():
        for row in rows:
            old = {key: value for key, value in row.items() if key not in LATER_IN_ATTEMPTS}
            connection.execute(insert_or_ignore(metadata.tables[name], connection.dialect.name), old)


def write_before_schema_8(connection: sa.Connection, bundle: bundles.Bundle) -> None:
    """Write a run or a result to schema 7, where projects are only names."""
    for name, rows in bundle.tables.items():
        if name == "projects":
            continue
        for row in rows:
            old = {key: value for key, value in row.items() if key not in LATER_IN_ATTEMPTS}
            match name:
                case "runs":
                    del old["project_id"]
                case "tests":
                    old["project"] = old.pop("project_id")
            types = metadata.tables[name].c
            columns = [sa.column(key, types[key].type if key in types else sa.Text()) for key in old]
            connection.execute(insert_or_ignore(sa.table(name, *columns), connection.dialect.name), old)  # type: ignore[arg-type]


def make_old(url: str, *names: str) -> Run:
    """Create a database of schema 7 with one run that has a result of each of these tests."""
    engine = make_engine(parse_url(url))
    run = make_run(started_at=days_ago(12))
    with engine.connect().execution_options(**WRITE) as connection, connection.begin():
        migrate.run_alembic(connection, "0007")
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA user_version = 7")
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        write_before_schema_8(connection, bundles.begin_bundle(run, [], None))
        for name in names:
            result = make_result(run, name, started_at=days_ago(12))
            write_before_schema_8(connection, bundles.result_bundle(run.id, run.project_id, result))
        daily.mark_run_stale(connection, run.id)
        connection.exec_driver_sql("UPDATE runs SET status = 'interrupted'")
    engine.dispose()
    return run


def make_result(
    run: Run, path: str = "test/test_a.py", outcome: Outcome = Outcome.PASSED, **changes: Any
) -> TestResult:
    """Return a result with one attempt."""
    assignment = changes.pop("assignment", None) or make_assignment(run, path)
    attempt = make_attempt(assignment, outcome, **changes)
    verb = Verb.PASS if outcome is Outcome.PASSED else Verb.FAIL
    return TestResult(attempts=(attempt,), outcome=outcome, verb=verb)


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def finish(database: Any, run: Run, status: RunStatus = RunStatus.FINISHED, exit_code: int = 0) -> None:
    database.finish_run(run.id, status=status, exit_code=exit_code, duration_seconds=1.5, ledger=LEDGER)


LEDGER = Ledger(
    expected_containers=2,
    created_containers=2,
    removed_containers=1,
    left=("container x",),
    unexpected=("volume v",),
)


def record_usage(
    database: Database,
    run: Run,
    path: str,
    *,
    memory_mib: int | None = 1,
    cpu: float | None = 0.1,
    seconds: float = 0.1,
    age: float = 0.0,
    outcome: Outcome = Outcome.PASSED,
    repetition: int = 1,
) -> None:
    """Record one attempt of the test `path`, `age` days old, with this peak of memory and these CPU seconds."""
    assignment = make_assignment(run, path, repetition=repetition)
    usage = make_usage(memory_peak_bytes=None if memory_mib is None else memory_mib << 20, cpu_seconds=cpu)
    database.record(
        run.id,
        make_result(
            run,
            assignment=assignment,
            outcome=outcome,
            usage=usage,
            test_seconds=seconds,
            started_at=days_ago(age),
        ),
    )

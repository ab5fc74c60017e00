"""Turn rows of the schema into model values, the inverse of `bundles`. Pure functions, except those that read the
names of tests.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows.bundles import FIGURES, LIMITS, TIMINGS
from orchestrator.database.rows.encoding import clean
from orchestrator.database.rows.raw_rows import fetch_raw
from orchestrator.database.schema.tables import tests
from orchestrator.model.evidence import Attestation, Launch, SlotUse, Timings
from orchestrator.model.outcomes import CaseOutcome, CaseResult, Outcome
from orchestrator.model.profiles import Limits
from orchestrator.model.results import Verb
from orchestrator.model.runs import EngineInfo, HostInfo, Ledger, RunStatus
from orchestrator.model.stored import AttemptRow, RunRow
from orchestrator.model.tests import TestId
from orchestrator.model.usage import Source, Usage
from orchestrator.model.violations import Severity, Violation, ViolationKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Columns = Mapping[Any, Any]

_ENGINE_FIELDS = frozenset(f.name for f in fields(EngineInfo))


def run_row(run: Columns, host: Columns, images: Mapping[str, str], counts: Mapping[str, int]) -> RunRow:
    """Return a run from its row, its host's row, its images and its counts."""
    engine = {key: value for key, value in run["engine"].items() if key in _ENGINE_FIELDS}
    engine["warnings"] = tuple(engine.get("warnings", ()))
    return RunRow(
        id=run["id"],
        started_at=run["started_at"],
        status=RunStatus(run["status"]),
        argv=tuple(run["argv"]),
        project=run["project"],
        project_id=run["project_id"],
        config_digest=run["config_digest"],
        orch_version=run["orch_version"],
        engine=EngineInfo(**engine),
        host=HostInfo(
            id=host["machine_id"],
            cpus=host["cpus"],
            memory_bytes=host["memory_bytes"],
            kernel=host["kernel"],
            python=host["python"],
        ),
        images=dict(images),
        revision=run["revision"],
        branch=run["branch"],
        dirty=run["dirty"],
        exit_code=run["exit_code"],
        duration_seconds=run["duration_seconds"],
        planned_tests=run["planned_count"],
        counts=dict(counts),
    )


def test_id(row: Columns) -> TestId:
    """Return a test's name from the columns `path` and `case_name`."""
    return TestId(path=row["path"], case=row["case_name"])


def names_of_tests(connection: sa.Connection, project: str | None = None) -> dict[str, TestId]:
    """Return the names of all tests by key, or of the tests of the project with this id. Tests of two projects may
    have the same name.
    """
    query = sa.select(tests.c.id, tests.c.path, tests.c.case_name)
    named = fetch_raw(connection, query if project is None else query.where(tests.c.project_id == project))
    return {key: TestId(path=path, case=case) for key, path, case in named}


def keys_of_tests(connection: sa.Connection, test_ids: Iterable[TestId]) -> dict[TestId, list[str]]:
    """Return the keys of tests by name, in all projects. A test that is not in the database is left out."""
    stored: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for key, path, case_name in fetch_raw(connection, sa.select(tests.c.id, tests.c.path, tests.c.case_name)):
        stored[path, case_name].append(key)
    names = {test: (clean(test.path), None if test.case is None else clean(test.case)) for test in test_ids}
    return {test: stored[name] for test, name in names.items() if name in stored}


def attempt_row(
    row: Columns,
    sheets: Mapping[str, Columns],
    *,
    violations: tuple[Violation, ...],
    cases: tuple[CaseResult, ...],
) -> AttemptRow:
    """Return an attempt from its row, joined with its test and its number of samples, its fact sheets, violations
    and cases.
    """
    return AttemptRow(
        id=row["id"],
        run_id=row["run_id"],
        test_id=test_id(row),
        suite=row["suite"],
        repetition=row["repetition"],
        attempt=row["attempt"],
        profile=row["profile"],
        reason=row["reason"],
        clamped=tuple(row["clamped"] or ()),
        outcome=Outcome(row["outcome"]),
        message=row["message"],
        exit_code=row["exit_code"],
        signal=row["signal"],
        witnesses=row["witnesses"],
        slot=SlotUse(position=row["slot_position"], launch=Launch(row["launch"]), unclean=row["unclean"]),
        started_at=row["started_at"],
        timings=Timings(**{name: row[name] for name in TIMINGS}),
        limits=Limits(**{name: row[f"limit_{name}"] for name in LIMITS}),
        usage=_usage(row, sheets.get(row["usage_sheet_id"], {})),
        attestation=_attestation(row, sheets),
        stdout_bytes=row["stdout_bytes"],
        stdout_kept_bytes=row["stdout_kept_bytes"],
        stderr_bytes=row["stderr_bytes"],
        stderr_kept_bytes=row["stderr_kept_bytes"],
        outputs_count=row["outputs_count"],
        violations=violations,
        cases=cases,
        samples_count=row["samples_count"] or 0,
        final=row["is_final"],
        test_outcome=None if row["test_outcome"] is None else Outcome(row["test_outcome"]),
        verb=None if row["verb"] is None else Verb(row["verb"]),
        flaky=row["is_flaky"],
    )


def _usage(row: Columns, sheet: Columns) -> Usage:
    return Usage(
        **{name: row[name] for name in FIGURES},
        sources={name: Source(source) for name, source in sheet.get("sources", {}).items()},
        missing=dict(sheet.get("missing", {})),
        memory_peak_is_upper_bound=row["memory_peak_is_upper_bound"],
        memory_peak_is_lower_bound=row["memory_peak_is_lower_bound"],
        upper_bounds=tuple(sheet.get("upper_bounds", ())),
        disagreements=dict(sheet.get("disagreements", {})),
        overheads=dict(sheet.get("overheads", {})),
    )


def _attestation(row: Columns, sheets: Mapping[str, Columns]) -> Attestation | None:
    if row["attestation_sheet_id"] is None:
        return None
    facts = dict(sheets.get(row["attestation_sheet_id"], {}))
    for name in ("capabilities", "mismatches"):
        facts[name] = tuple(facts.get(name, ()))
    known = {f.name for f in fields(Attestation)}
    return Attestation(
        container_name=row["container_name"],
        container_id=row["container_id"],
        image_id=row["image_id"],
        **{key: value for key, value in facts.items() if key in known},
    )


def case_result(row: Columns) -> CaseResult:
    """Return a case from its row."""
    return CaseResult(
        name=row["name"],
        outcome=CaseOutcome(row["outcome"]),
        duration_seconds=row["duration_seconds"],
        message=row["message"],
    )


def violation(row: Columns) -> Violation:
    """Return a violation from its row."""
    return Violation(
        kind=ViolationKind(row["kind"]),
        severity=Severity(row["severity"]),
        measured=row["measured"],
        limit=row["limit_value"],
        unit=row["unit"],
        message=row["message"],
    )


def ledger(row: Columns) -> Ledger:
    """Return a ledger from its row."""
    return Ledger(
        expected_containers=row["expected_containers"],
        created_containers=row["created_containers"],
        removed_containers=row["removed_containers"],
        left=tuple(row["left_objects"]),
        unexpected=tuple(row["unexpected_objects"]),
    )

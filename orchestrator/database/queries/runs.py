"""Find runs, and load their attempts, samples and failed tests."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows import mapping
from orchestrator.database.rows.encoding import unpack_plan, unpack_samples
from orchestrator.database.rows.raw_rows import in_chunks
from orchestrator.database.schema import tables
from orchestrator.database.store.writer import count_outcomes
from orchestrator.errors import NothingFoundError, UsageError
from orchestrator.model.outcomes import SUCCESSFUL
from orchestrator.model.stored import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.database.store.store import Database
    from orchestrator.model.runs import Ledger
    from orchestrator.model.stored import AttemptRow, RunRow
    from orchestrator.model.tests import TestId
    from orchestrator.model.usage import Sample

_ID_CHARACTERS = frozenset("0123456789abcdef-")


def list_runs(db: Database, limit: int = 20) -> tuple[RunRow, ...]:
    """Return the project's newest runs, newest first."""
    with db.reading() as connection:
        newest = _newest_first(db.scope(connection)).limit(limit)
        return run_rows(connection, connection.execute(newest).scalars().all())


def find_run(db: Database, name: str) -> RunRow:
    """Return the run with this id or unique beginning of an id, in any project, or the project's `latest`.
    NothingFoundError; UsageError if it is ambiguous.
    """
    with db.reading() as connection:
        return _find(connection, name, db.scope(connection))


def load_run(db: Database, name: str) -> RunRecord:
    """Return a run with all its attempts. `name`: as for `find_run`."""
    with db.reading() as connection:
        run = _find(connection, name, db.scope(connection))
        attempts = _attempts(connection, run.id)
        planned = unpack_plan(
            connection.execute(sa.select(tables.runs.c.planned).where(tables.runs.c.id == run.id)).scalar_one()
        )
        return RunRecord(
            run=run,
            attempts=attempts,
            not_run=_not_run(planned, attempts),
            ledger=_ledger(connection, run.id),
        )


def load_samples(db: Database, attempt_id: str) -> tuple[Sample, ...]:
    """Return the time series of an attempt, empty if none is stored."""
    samples = tables.samples
    with db.reading() as connection:
        series = connection.execute(sa.select(samples.c.series).where(samples.c.attempt_id == attempt_id)).scalar()
    return () if series is None else unpack_samples(series)


def failed_tests(db: Database, run: str) -> tuple[TestId, ...]:
    """Return the tests that `--rerun` selects: those that did not pass (or skip) in some repetition, and those not
    run.
    """
    record = load_run(db, run)
    failed = {a.test_id for a in record.final_attempts if a.test_outcome not in SUCCESSFUL}
    return tuple(sorted(failed | set(record.not_run), key=str))


def _newest_first(project: str | None) -> sa.Select[Any]:
    runs = tables.runs
    query = sa.select(runs.c.id).order_by(runs.c.started_at.desc())
    return query if project is None else query.where(runs.c.project_id == project)


def _find(connection: sa.Connection, name: str, project: str | None) -> RunRow:
    runs = tables.runs
    if name == "latest":
        ids = connection.execute(_newest_first(project).limit(1)).scalars().all()
        missing = NothingFoundError("no run is stored yet", remedy="start one with `orch run`")
    else:
        prefix = name.strip().lower()
        missing = NothingFoundError(f"no run begins with {name!r}", remedy="see `orch runs list`")
        if not prefix or not set(prefix) <= _ID_CHARACTERS:
            raise missing
        matching = sa.select(runs.c.id).where(runs.c.id.startswith(prefix, autoescape=True)).limit(6)
        ids = connection.execute(matching).scalars().all()
    if not ids:
        raise missing
    if len(ids) > 1:
        some = ", ".join(sorted(ids)[:5])
        raise UsageError(f"{name!r} is the beginning of several runs: {some}", remedy="type more digits")
    return run_rows(connection, ids)[0]


def run_rows(connection: sa.Connection, ids: Sequence[str]) -> tuple[RunRow, ...]:
    """Return the runs with these ids, in the same order."""
    runs, hosts, images = tables.runs, tables.hosts, tables.images
    wanted = [c for c in runs.c if c.name != "planned"]
    run_rows = connection.execute(sa.select(*wanted).where(runs.c.id.in_(ids))).mappings().all()
    host_rows = {row["id"]: row for row in connection.execute(sa.select(hosts)).mappings()}
    pinned: dict[str, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(sa.select(images).where(images.c.run_id.in_(ids))).mappings():
        pinned[row["run_id"]][row["name"]] = row["image_id"]
    found = {
        row["id"]: mapping.run_row(
            row,
            host_rows[row["host_id"]],
            pinned[row["id"]],
            row["counts"] or count_outcomes(connection, row["id"]),
        )
        for row in run_rows
    }
    return tuple(found[run_id] for run_id in ids)


def _attempts(connection: sa.Connection, run_id: str) -> tuple[AttemptRow, ...]:
    attempts, tests, samples = tables.attempts, tables.tests, tables.samples
    cases = _belonging(connection, tables.cases, run_id, mapping.case_result)
    violations = _belonging(connection, tables.violations, run_id, mapping.violation)
    query = (
        sa.select(attempts, tests.c.path, tests.c.case_name, samples.c.samples_count)
        .join(tests, tests.c.id == attempts.c.test_id)
        .outerjoin(samples, samples.c.attempt_id == attempts.c.id)
        .where(attempts.c.run_id == run_id)
        .order_by(tests.c.path, tests.c.case_name, attempts.c.repetition, attempts.c.attempt)
    )
    found = connection.execute(query).mappings().all()
    keys = {row[name] for row in found for name in ("usage_sheet_id", "attestation_sheet_id")} - {None}
    sheets = _sheets(connection, keys)
    return tuple(
        mapping.attempt_row(row, sheets, violations=tuple(violations[row["id"]]), cases=tuple(cases[row["id"]]))
        for row in found
    )


def _belonging(
    connection: sa.Connection, table: sa.Table, run_id: str, convert: Callable[[Any], Any]
) -> dict[str, list[Any]]:
    """Return the converted rows of a table that belong to attempts of the run, by attempt and in order."""
    query = (
        sa.select(table)
        .join(tables.attempts, tables.attempts.c.id == table.c.attempt_id)
        .where(tables.attempts.c.run_id == run_id)
        .order_by(table.c.attempt_id, table.c.position)
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[row["attempt_id"]].append(convert(row))
    return found


def _sheets(connection: sa.Connection, keys: set[str]) -> dict[str, dict[str, Any]]:
    sheets = tables.fact_sheets
    found: dict[str, dict[str, Any]] = {}
    for some in in_chunks(sorted(keys)):
        query = sa.select(sheets.c.id, sheets.c.facts).where(sheets.c.id.in_(some))
        found |= {key: facts for key, facts in connection.execute(query)}  # noqa: C416 - Row is no pair for dict()
    return found


def _ledger(connection: sa.Connection, run_id: str) -> Ledger | None:
    table = tables.ledger
    row = connection.execute(sa.select(table).where(table.c.run_id == run_id)).mappings().first()
    return None if row is None else mapping.ledger(row)


def _not_run(planned: Sequence[tuple[TestId, int]], attempts: Sequence[AttemptRow]) -> tuple[TestId, ...]:
    done = {(a.test_id, a.repetition) for a in attempts if a.final}
    return tuple(dict.fromkeys(test_id for test_id, repetition in planned if (test_id, repetition) not in done))

"""Writes bundles into the tables: once each, whatever is repeated. Runs inside the caller's transaction."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.database import daily, schema
from orchestrator.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.database.bundles import Bundle, Row


def write(connection: sa.Connection, bundle: Bundle, known: set[str]) -> bool:
    """Write a bundle; False if it was there before. `known` has keys that are surely stored already."""
    match bundle.kind:
        case "begin":
            return _begin(connection, bundle)
        case "result":
            return _result(connection, bundle, known)
        case "finish":
            return _finish(connection, bundle)


@cache
def _insert(table: sa.Table, dialect_name: str) -> sa.Insert:
    """Built once for each table: building takes as long as SQLite needs to execute it."""
    dialect: Any = sqlite if dialect_name == "sqlite" else postgresql
    statement: sa.Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)  # else PostgreSQL's is lost


def _add(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert rows, leaving out those that clash with a key; returns how many went in (for one row only)."""
    if not rows:
        return 0
    statement = _insert(table, connection.dialect.name)
    if len(rows) == 1:
        return connection.execute(statement, rows[0]).rowcount
    connection.execute(statement, list(rows))
    return len(rows)


def _begin(connection: sa.Connection, bundle: Bundle) -> bool:
    _add(connection, schema.hosts, bundle.tables["hosts"])
    if not _add(connection, schema.runs, bundle.tables["runs"]):
        return False
    _add(connection, schema.images, bundle.tables["images"])
    return True


def _result(connection: sa.Connection, bundle: Bundle, known: set[str]) -> bool:
    for table in (schema.fact_sheets, schema.tests):
        for row in bundle.tables[table.name]:
            if row["id"] not in known:
                _add(connection, table, [row])
    deciding, *earlier = bundle.tables["attempts"]
    # One index allows one final attempt per test and repetition: whoever comes second changes nothing.
    if not _add(connection, schema.attempts, [deciding]):
        return False
    added = {deciding["id"]}
    added |= {row["id"] for row in earlier if _add(connection, schema.attempts, [row])}
    for table in (schema.cases, schema.violations, schema.samples):
        rows = [row for row in bundle.tables[table.name] if row["attempt_id"] in added]
        _add(connection, table, rows)
    return True


def keys_of(bundle: Bundle) -> set[str]:
    """Keys of shared rows that are stored for sure once the bundle is committed."""
    return {row["id"] for name in ("fact_sheets", "tests") for row in bundle.tables.get(name, ())}


def _finish(connection: sa.Connection, bundle: Bundle) -> bool:
    (change,) = bundle.tables["runs"]
    change = {**change, "counts": count_outcomes(connection, bundle.run_id)}
    runs = schema.runs
    done = connection.execute(runs.update().where(runs.c.id == bundle.run_id).values(**change)).rowcount
    if done:
        _add(connection, schema.ledger, bundle.tables["ledger"])
        daily.mark_run(connection, bundle.run_id)
    return bool(done)


def count_outcomes(connection: sa.Connection, run_id: str) -> dict[str, int]:
    """The same counts as `RunSummary.counts`, from what is recorded."""
    attempts, violations = schema.attempts, schema.violations
    finals = sa.and_(attempts.c.run_id == run_id, attempts.c.is_final)
    flaky = sa.func.sum(sa.case((attempts.c.is_flaky, 1), else_=0))
    query = sa.select(attempts.c.test_outcome, sa.func.count(), flaky).where(finals)
    rows = connection.execute(query.group_by(attempts.c.test_outcome)).all()
    broken = sa.select(sa.func.count()).select_from(violations.join(attempts)).where(finals)
    by_outcome = {str(outcome): int(number) for outcome, number, _ in rows}
    return {
        "tests": sum(by_outcome.values()),
        "flaky": sum(int(number) for _, _, number in rows),
        "violations": int(connection.execute(broken).scalar_one()),
        **{outcome.value: by_outcome.get(outcome.value, 0) for outcome in Outcome},
    }


def interrupt(connection: sa.Connection, run_id: str) -> None:
    """Mark a run that nobody writes any more."""
    runs = schema.runs
    change = {"status": "interrupted", "counts": count_outcomes(connection, run_id)}
    still = sa.and_(runs.c.id == run_id, runs.c.status == "running")
    connection.execute(runs.update().where(still).values(**change))
    daily.mark_run(connection, run_id)


def running(connection: sa.Connection) -> list[tuple[str, str | None]]:
    """Id and owner of each run that says it is running."""
    runs = schema.runs
    rows = connection.execute(sa.select(runs.c.id, runs.c.owner).where(runs.c.status == "running"))
    return [(str(run_id), owner) for run_id, owner in rows]

"""Writes bundles into the tables: once each, whatever is repeated. Runs inside the caller's transaction."""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups import daily
from orchestrator.database.rows import projects, upserts
from orchestrator.database.schema import tables as schema
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Dialect

    from orchestrator.database.rows.bundles import Bundle, Row


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
    return upserts.insert_or_ignore(table, dialect_name).execution_options(
        preserve_rowcount=True
    )  # else PostgreSQL's is lost


def _add(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert rows, leaving out those that clash with a key; returns how many went in (for one row only)."""
    if not rows:
        return 0
    statement = _insert(table, connection.dialect.name)
    if len(rows) == 1:
        return connection.execute(statement, rows[0]).rowcount
    connection.execute(statement, list(rows))
    return len(rows)


def write_together(connection: sa.Connection, results: Sequence[Bundle], known: set[str]) -> bool:
    """Write new results with one statement a table. False: one of them was there before; undo it all then."""
    for table in (schema.fact_sheets, schema.tests):
        shared = {row["id"]: row for bundle in results for row in bundle.tables[table.name]}
        _add_all(connection, table, [row for key, row in shared.items() if key not in known])
    attempts = [row for bundle in results for row in bundle.tables["attempts"]]
    if _add_all(connection, schema.attempts, attempts) != len(attempts):
        return False
    for table in (schema.cases, schema.violations, schema.samples):
        _add_all(connection, table, [row for bundle in results for row in bundle.tables[table.name]])
    return True


def _add_all(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """As `_add` for complete rows; how many went in, -1 where the driver does not say."""
    if not rows:
        return 0
    if connection.dialect.name != "sqlite":
        if len(rows) == 1:
            return connection.execute(_insert(table, connection.dialect.name), rows[0]).rowcount
        return connection.execute(_insert(table, connection.dialect.name), list(rows)).rowcount
    statement, values_of = _driver_insert(table, connection.dialect)
    if len(rows) == 1:
        return connection.exec_driver_sql(statement, values_of(rows[0])).rowcount
    return connection.exec_driver_sql(statement, [values_of(row) for row in rows]).rowcount


@cache
def _driver_insert(table: sa.Table, dialect: Dialect) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """The statement's text for all columns, and what takes their values out of a row, in the driver's types.
    SQLAlchemy's own way does the same for each row anew, in five times the time.
    """
    names = [column.name for column in table.columns]
    statement = _insert(table, dialect.name).compile(dialect=dialect, column_keys=names)
    places = tuple(statement.positiontup or ())
    pick = itemgetter(*places)
    converters = [
        (place, convert)
        for place, name in enumerate(places)
        if (convert := table.columns[name].type.dialect_impl(dialect).bind_processor(dialect)) is not None
    ]

    def values_of(row: Row) -> tuple[Any, ...]:
        values = list(pick(row))
        for place, convert in converters:
            values[place] = convert(values[place])
        return tuple(values)

    return str(statement), values_of


def _begin(connection: sa.Connection, bundle: Bundle) -> bool:
    projects.store_projects(connection, bundle.tables["projects"])
    _add(connection, schema.hosts, bundle.tables["hosts"])
    if not _add(connection, schema.runs, bundle.tables["runs"]):
        return False
    _add(connection, schema.images, bundle.tables["images"])
    return True


def _result(connection: sa.Connection, bundle: Bundle, known: set[str]) -> bool:
    for table in (schema.fact_sheets, schema.tests):
        for row in bundle.tables[table.name]:
            if row["id"] not in known:
                _add_all(connection, table, [row])
    deciding, *earlier = bundle.tables["attempts"]
    # One index allows one final attempt per test and repetition: whoever comes second changes nothing.
    if not _add_all(connection, schema.attempts, [deciding]):
        return False
    added = {deciding["id"]}
    added |= {row["id"] for row in earlier if _add_all(connection, schema.attempts, [row])}
    for table in (schema.cases, schema.violations, schema.samples):
        rows = [row for row in bundle.tables[table.name] if row["attempt_id"] in added]
        _add_all(connection, table, rows)
    return True


def keys_of(bundle: Bundle) -> set[str]:
    """Keys of rows that many results share and that are stored for sure once the bundle is committed. Not those of
    tests, which a run has thousands of and each mostly once.
    """
    return {row["id"] for row in bundle.tables.get("fact_sheets", ())}


def _finish(connection: sa.Connection, bundle: Bundle) -> bool:
    (change,) = bundle.tables["runs"]
    change = {**change, "counts": count_outcomes(connection, bundle.run_id)}
    runs = schema.runs
    done = connection.execute(runs.update().where(runs.c.id == bundle.run_id).values(**change)).rowcount
    if done:
        _add(connection, schema.ledger, bundle.tables["ledger"])
        daily.mark_run_stale(connection, bundle.run_id)
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
    daily.mark_run_stale(connection, run_id)


def running(connection: sa.Connection) -> list[tuple[str, str | None]]:
    """Id and owner of each run that says it is running."""
    runs = schema.runs
    rows = connection.execute(sa.select(runs.c.id, runs.c.owner).where(runs.c.status == "running"))
    return [(str(run_id), owner) for run_id, owner in rows]

"""Write bundles into the tables within the caller's transaction. Writing a bundle again changes nothing."""

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
    """Write a bundle; return False if it was stored before. `known`: keys of rows that are certainly stored."""
    match bundle.kind:
        case "begin":
            return _begin(connection, bundle)
        case "result":
            return _result(connection, bundle, known)
        case "finish":
            return _finish(connection, bundle)


@cache
def _insert_statement(table: sa.Table, dialect_name: str) -> sa.Insert:
    """Return the insert statement of a table. Cached: building it takes as long as SQLite needs to execute it."""
    # otherwise SQLAlchemy discards the count of PostgreSQL
    return upserts.insert_or_ignore(table, dialect_name).execution_options(preserve_rowcount=True)


def _insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert rows and skip those that conflict with a key. Return the number of inserted rows, which is exact for
    one row.
    """
    if not rows:
        return 0
    statement = _insert_statement(table, connection.dialect.name)
    if len(rows) == 1:
        return connection.execute(statement, rows[0]).rowcount
    connection.execute(statement, list(rows))
    return len(rows)


def write_batch(connection: sa.Connection, results: Sequence[Bundle], known: set[str]) -> bool:
    """Write new results with one statement for each table. Return False if one of them was stored before; the
    caller must then roll back.
    """
    for table in (schema.fact_sheets, schema.tests):
        shared = {row["id"]: row for bundle in results for row in bundle.tables[table.name]}
        _insert_complete(connection, table, [row for key, row in shared.items() if key not in known])
    attempts = [row for bundle in results for row in bundle.tables["attempts"]]
    if _insert_complete(connection, schema.attempts, attempts) != len(attempts):
        return False
    for table in (schema.cases, schema.violations, schema.samples):
        _insert_complete(connection, table, [row for bundle in results for row in bundle.tables[table.name]])
    return True


def _insert_complete(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert complete rows and skip those that conflict with a key. Return the number of inserted rows, or -1 if
    the driver does not report it.
    """
    if not rows:
        return 0
    if connection.dialect.name != "sqlite":
        if len(rows) == 1:
            return connection.execute(_insert_statement(table, connection.dialect.name), rows[0]).rowcount
        return connection.execute(_insert_statement(table, connection.dialect.name), list(rows)).rowcount
    statement, values_of = _driver_insert_statement(table, connection.dialect)
    if len(rows) == 1:
        return connection.exec_driver_sql(statement, values_of(rows[0])).rowcount
    return connection.exec_driver_sql(statement, [values_of(row) for row in rows]).rowcount


@cache
def _driver_insert_statement(table: sa.Table, dialect: Dialect) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """Return the text of an insert of all columns, and a function that returns the values of a row in the driver's
    types. SQLAlchemy converts each row separately, which takes five times as long.
    """
    names = [column.name for column in table.columns]
    statement = _insert_statement(table, dialect.name).compile(dialect=dialect, column_keys=names)
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
    _insert_rows(connection, schema.hosts, bundle.tables["hosts"])
    if not _insert_rows(connection, schema.runs, bundle.tables["runs"]):
        return False
    _insert_rows(connection, schema.images, bundle.tables["images"])
    return True


def _result(connection: sa.Connection, bundle: Bundle, known: set[str]) -> bool:
    for table in (schema.fact_sheets, schema.tests):
        for row in bundle.tables[table.name]:
            if row["id"] not in known:
                _insert_complete(connection, table, [row])
    final, *earlier = bundle.tables["attempts"]
    # A unique index allows one final attempt for each test and repetition: the second one changes nothing.
    if not _insert_complete(connection, schema.attempts, [final]):
        return False
    added = {final["id"]}
    added |= {row["id"] for row in earlier if _insert_complete(connection, schema.attempts, [row])}
    for table in (schema.cases, schema.violations, schema.samples):
        rows = [row for row in bundle.tables[table.name] if row["attempt_id"] in added]
        _insert_complete(connection, table, rows)
    return True


def keys_of(bundle: Bundle) -> set[str]:
    """Return the keys of rows that many results share and that are stored once the bundle is committed. Keys of
    tests are left out: a run has thousands, mostly used once.
    """
    return {row["id"] for row in bundle.tables.get("fact_sheets", ())}


def _finish(connection: sa.Connection, bundle: Bundle) -> bool:
    (change,) = bundle.tables["runs"]
    change = {**change, "counts": count_outcomes(connection, bundle.run_id)}
    runs = schema.runs
    done = connection.execute(runs.update().where(runs.c.id == bundle.run_id).values(**change)).rowcount
    if done:
        _insert_rows(connection, schema.ledger, bundle.tables["ledger"])
        daily.mark_run_stale(connection, bundle.run_id)
    return bool(done)


def count_outcomes(connection: sa.Connection, run_id: str) -> dict[str, int]:
    """Count the results of a run by outcome from the stored rows, as `RunSummary.counts` does."""
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
    """Mark a run whose process has died as interrupted."""
    runs = schema.runs
    change = {"status": "interrupted", "counts": count_outcomes(connection, run_id)}
    still = sa.and_(runs.c.id == run_id, runs.c.status == "running")
    connection.execute(runs.update().where(still).values(**change))
    daily.mark_run_stale(connection, run_id)


def running(connection: sa.Connection) -> list[tuple[str, str | None]]:
    """Return the id and the owner of each run with status `running`."""
    runs = schema.runs
    rows = connection.execute(sa.select(runs.c.id, runs.c.owner).where(runs.c.status == "running"))
    return [(str(run_id), owner) for run_id, owner in rows]

"""Read rows in the driver's types: SQLAlchemy's row objects cost as much again, and a report may read millions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

from orchestrator.database.rows.encoding import sqlite_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa

    RawRows = Sequence[tuple[Any, ...]]

T = TypeVar("T")

_CHUNK = 500


def fetch_raw(connection: sa.Connection, query: sa.Select[Any]) -> RawRows:
    """Return all rows of a query in the driver's types. SQLite gives flags as 0 and 1, and times as text: see
    `parse_timestamp`.
    """
    result = connection.execute(query)
    try:
        rows: RawRows = result.cursor.fetchall() if result.cursor is not None else []
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(str(query), {}, error) from error
    result.close()
    return rows


def fetch_sql(connection: sa.Connection, statement: str, parameters: Sequence[object]) -> RawRows:
    """Execute SQL text with `?` for each parameter in the transaction of `connection`, and return all rows in the
    driver's types.
    """
    values = list(parameters)
    if connection.dialect.name == "sqlite":
        values = [sqlite_time(value) if isinstance(value, datetime) else value for value in values]
    else:
        statement = statement.replace("?", "%s")
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, values)
        rows: RawRows = cursor.fetchall()
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(statement, values, error) from error
    finally:
        cursor.close()
    return rows


class RawQuery:
    """A query without `IN` lists that is compiled once and executed many times in the connection's transaction."""

    def __init__(self, connection: sa.Connection, query: sa.Select[Any]) -> None:
        dialect = connection.dialect
        compiled = query.compile(dialect=dialect)
        self._text, self._places = str(compiled), compiled.positiontup
        self._fixed: dict[str, Any] = {}
        for name, bound in compiled.binds.items():
            convert = bound.type.dialect_impl(dialect).bind_processor(dialect)
            value = bound.effective_value
            self._fixed[name] = value if convert is None or value is None else convert(value)
        self._connection, self._errors = connection.connection, dialect.loaded_dbapi.Error

    def rows(self, **parameters: str) -> RawRows:
        """Return all rows for these values of the query's `bindparam`s, in the driver's types."""
        named = {**self._fixed, **parameters}
        values: Any = named if self._places is None else [named[name] for name in self._places]
        cursor = self._connection.cursor()
        try:
            cursor.execute(self._text, values)
            rows: RawRows = cursor.fetchall()
        except self._errors as error:
            raise DBAPIError(self._text, named, error) from error
        finally:
            cursor.close()
        return rows


def in_chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Divide the values of an `IN` list into chunks, because SQLite limits the number of parameters of a
    statement.
    """
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def parse_timestamp(value: str | datetime) -> datetime:
    """Return a time of a raw row in UTC: SQLite gives text, PostgreSQL a datetime."""
    if isinstance(value, str):
        return datetime.fromisoformat(f"{value}+00:00")
    return value.astimezone(UTC)

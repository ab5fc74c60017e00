"""Rows as the driver makes them. SQLAlchemy's own cost as much again, and a report may read a million."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa

    RawRows = Sequence[tuple[Any, ...]]

T = TypeVar("T")

_MOST_PARAMETERS = 500


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


class RawQuery:
    """A query without lists (`IN`) that is asked many times, compiled once; in the connection's transaction."""

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
        """As `fetch_raw`, with these values for its `bindparam`s."""
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
    """A list for `IN`, in parts: SQLite bounds the number of parameters of a statement."""
    for start in range(0, len(values), _MOST_PARAMETERS):
        yield values[start : start + _MOST_PARAMETERS]


def parse_timestamp(value: str | datetime) -> datetime:
    """A time of a plain row, in UTC."""
    if isinstance(value, str):
        return datetime.fromisoformat(f"{value}+00:00")
    return value.astimezone(UTC)

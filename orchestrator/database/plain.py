"""Rows as the driver makes them. SQLAlchemy's own cost as much again, and a report may read a million."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    PlainRows = Sequence[tuple[Any, ...]]


def plain_rows(
    connection: sa.Connection, query: sa.Select[Any], parameters: Mapping[str, object] | None = None
) -> PlainRows:
    """All rows of a query, in the driver's types: SQLite's flags are 0 and 1, its times text (`moment_of`)."""
    result = connection.execute(query, parameters)
    try:
        rows: PlainRows = result.cursor.fetchall() if result.cursor is not None else []
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(str(query), dict(parameters or {}), error) from error
    result.close()
    return rows


def moment_of(value: str | datetime) -> datetime:
    """A time of a plain row, in UTC."""
    if isinstance(value, str):
        return datetime.fromisoformat(f"{value}+00:00")
    return value.astimezone(UTC)

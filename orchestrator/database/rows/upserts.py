"""Insert rows that are not stored yet, in SQLite and PostgreSQL."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa


@cache
def insert_or_ignore(table: sa.Table, dialect_name: str) -> sa.Insert:
    """Return an insert statement that skips rows which conflict with a key. Cached: building it takes as long as
    executing it.
    """
    dialect: Any = sqlite
    if dialect_name != "sqlite":
        from sqlalchemy.dialects import postgresql as dialect  # the import takes 35 ms
    statement: sa.Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not stored yet."""
    if rows:
        connection.execute(insert_or_ignore(table, connection.dialect.name), [dict(row) for row in rows])

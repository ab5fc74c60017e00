"""Inserts that leave alone what is there already, in SQLite and PostgreSQL alike."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa


@cache
def insert_or_ignore(table: sa.Table, dialect_name: str) -> sa.Insert:
    """An insert that leaves out rows which clash with a key. Built once: that takes as long as its execution."""
    dialect: Any = sqlite
    if dialect_name != "sqlite":
        from sqlalchemy.dialects import postgresql as dialect  # 35 ms
    statement: sa.Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet."""
    if rows:
        connection.execute(insert_or_ignore(table, connection.dialect.name), [dict(row) for row in rows])

"""Report the size of the database by table, and the time that it covers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orchestrator.database.schema import tables as schema
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.model.stored import DatabaseSize, TableSize

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database


def database_size(db: Database) -> DatabaseSize:
    """Return the number of rows and bytes of each table, including its indexes."""
    with db.reading() as connection:
        tables = [
            TableSize(
                name=table.name,
                rows=int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()),
                bytes=size,
            )
            for table, size in _bytes_of_tables(connection)
        ]
        first = sa.select(sa.func.min(schema.runs.c.started_at), sa.func.max(schema.runs.c.started_at))
        oldest, newest = connection.execute(first).one()
        first_day = connection.execute(sa.select(sa.func.min(schema.daily_usage.c.day))).scalar()
        stale = connection.execute(sa.select(sa.func.count()).select_from(schema.stale_days)).scalar_one()
        return DatabaseSize(
            place=db.place,
            schema=SCHEMA_VERSION,
            bytes=_bytes(connection),
            free_bytes=_free_bytes(connection),
            oldest_run_at=oldest,
            newest_run_at=newest,
            first_day=first_day,
            days_not_summed_up=int(stale),
            tables=tuple(tables),
        )


def _bytes_of_tables(connection: sa.Connection) -> list[tuple[sa.Table, int | None]]:
    if connection.dialect.name == "sqlite":
        return _bytes_in_sqlite(connection)
    size = sa.text("SELECT pg_total_relation_size(cast(:name AS regclass))")
    return [
        (table, int(connection.execute(size, {"name": table.name}).scalar_one()))
        for table in schema.metadata.sorted_tables
    ]


def _bytes_in_sqlite(connection: sa.Connection) -> list[tuple[sa.Table, int | None]]:
    """Return the size of each table from SQLite's virtual table dbstat, which reads the header of each page. None
    where this build of SQLite lacks it.
    """
    query = (
        "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_schema m ON m.name = s.name "
        "WHERE s.aggregate = TRUE GROUP BY m.tbl_name"
    )
    sizes: dict[str, int] = {}
    with suppress(DBAPIError):
        sizes = {name: int(size) for name, size in connection.exec_driver_sql(query)}
    return [(table, sizes.get(table.name)) for table in schema.metadata.sorted_tables]


def _bytes(connection: sa.Connection) -> int:
    if connection.dialect.name == "sqlite":
        return _pages(connection, "page_count")
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())


def _free_bytes(connection: sa.Connection) -> int | None:
    return _pages(connection, "freelist_count") if connection.dialect.name == "sqlite" else None


def _pages(connection: sa.Connection, which: str) -> int:
    number, size = (connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in (which, "page_size"))
    return int(number) * int(size)

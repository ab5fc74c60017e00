"""Tables about the resource database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.tables.columns import count, in_bytes, number, time_text
from orchestrator.reports.tables.table import Column, Table
from orchestrator.text import UNKNOWN

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.model.stored import DatabaseSize


def database_table(size: DatabaseSize) -> Table:
    """Return a table of one row: place, size and covered time of the database."""
    return Table(
        name="database",
        columns=(
            Column(key="place", title="database", flexible=True),
            count("schema"),
            Column(key="size_bytes", title="size", right=True),
            Column(key="free_bytes", title="free", right=True),
            Column(key="oldest_run_at", title="oldest run"),
            Column(key="newest_run_at", title="newest run"),
            Column(key="first_day", title="days from"),
            count("days_not_summed_up", "days not summed up", optional=True),
        ),
        rows=(
            (
                size.place,
                number(size.schema),
                in_bytes(size.bytes),
                in_bytes(size.free_bytes),
                _time(size.oldest_run_at),
                _time(size.newest_run_at),
                size.first_day or UNKNOWN,
                number(size.days_not_summed_up),
            ),
        ),
    )


def sizes_table(size: DatabaseSize) -> Table:
    """Return a table of the database's tables, largest first."""
    largest = sorted(size.tables, key=lambda table: (-(table.bytes or 0), -table.rows, table.name))
    return Table(
        name="tables",
        columns=(
            Column(key="table", title="table", flexible=True),
            count("rows"),
            Column(key="size_bytes", title="size with indexes", right=True),
        ),
        rows=tuple((table.name, number(table.rows), in_bytes(table.bytes)) for table in largest),
    )


def _time(moment: datetime | None) -> str:
    return UNKNOWN if moment is None else time_text(moment)

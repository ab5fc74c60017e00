"""Report what a fresh container cost earlier tests before they ran."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from orchestrator.database.rows.raw_rows import fetch_sql
from orchestrator.database.store.history import read_startup_seconds

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database


def startup_seconds(db: Database) -> tuple[float, int] | None:
    """Return the median start-up time of the newest fresh containers, see `history.read_startup_seconds`."""
    with db.reading() as connection:
        return read_startup_seconds(partial(fetch_sql, connection))

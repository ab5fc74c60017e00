"""`orch db ...`: show the path and size of the resource database, shrink it, and merge others into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note, say, show
from orchestrator.coordinator.database import database_to_read, database_to_write
from orchestrator.coordinator.session import load_with_database
from orchestrator.database.files.open import location_of
from orchestrator.database.queries.sizes import database_size
from orchestrator.database.store.merge import merge
from orchestrator.errors import ExitCode
from orchestrator.reports.tables import database as databases
from orchestrator.text import format_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def db_path(*, config_path: Path | None, database: str | None) -> int:
    """Print the path or URL of the resource database."""
    config = load_with_database(config_path, database)
    say(location_of(config.database_url, state_dir=config.state_dir))
    return ExitCode.OK


def db_info(*, config_path: Path | None, database: str | None, output_format: str) -> int:
    """Print the size of the database by table, and the period that it covers."""
    with database_to_read(config_path, database, scoped=False) as db:
        size = database_size(db)
    show((databases.database_table(size), databases.sizes_table(size)), output_format)
    return ExitCode.OK


def db_vacuum(*, config_path: Path | None, database: str | None) -> int:
    """Replace the records of past days by daily sums, and return the space of deleted records to the disk."""
    with database_to_write(config_path, database) as db:
        days = db.sum_up()
        before = database_size(db).bytes
        db.vacuum()
        after = database_size(db).bytes
        say(f"{db.place}: {format_bytes(before)} before, {format_bytes(after)} now")
    if days:
        note(f"{plural(days, 'day')} summed up")
    return ExitCode.OK


def db_merge(*, config_path: Path | None, database: str | None, files: Sequence[Path]) -> int:
    """Copy all records of the database files into the resource database; the files are not changed."""
    with database_to_write(config_path, database) as db:
        merged = merge(db, files)
    for one in merged:
        older = f" (schema {one.version}, upgraded in a copy)" if one.was_older else ""
        say(f"{one.path}: {plural(one.runs, 'new run')}, {plural(one.attempts, 'new attempt')}{older}")
    return ExitCode.OK

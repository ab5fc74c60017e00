"""Read a database file with Python's own SQLite module, without SQLAlchemy and without a lock or a file beside it.

`orch plan` and the start of a run ask a few short questions. SQLAlchemy takes 0.2 s to import; a run imports it
while the engine starts the first container.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from orchestrator.database.files.sqlite_file import FileKind, has_log, is_readable_in_place, read_header
from orchestrator.database.rows.encoding import sqlite_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from orchestrator.database.store.history import Fetch

T = TypeVar("T")


def read_directly(path: Path, read: Callable[[Fetch], T], *, absent: T) -> T | None:
    """Return what `read` returns for the database file at `path`, or `absent` if there is no file.

    Return None where the file cannot be read this way, so that the caller must open the database: it has another
    schema, is not a database of orch or is damaged, or a log beside it may hold more, because a run is writing or
    was killed.
    """
    header = read_header(path)
    if header.kind is FileKind.ABSENT and not has_log(path, even_empty=True):
        return absent
    if not is_readable_in_place(path, header, even_empty=True):
        return None
    try:
        # immutable: SQLite makes no lock and no file beside it. If a run begins to write meanwhile, a page may be
        # inconsistent, which gives an error or an older figure.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            return read(_fetch_from(connection))
    except sqlite3.Error:
        return None


def _fetch_from(connection: sqlite3.Connection) -> Fetch:
    def fetch(statement: str, parameters: Sequence[object]) -> Sequence[tuple[Any, ...]]:
        stored = [sqlite_time(value) if isinstance(value, datetime) else value for value in parameters]
        return connection.execute(statement, stored).fetchall()

    return fetch

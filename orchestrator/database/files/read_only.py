"""Open a database file for reading without changing it or creating a file beside it. A file with an older schema
or with a log is copied, and the copy is upgraded.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.database.files import migrate
from orchestrator.database.files.connect import make_engine
from orchestrator.database.files.sqlite_file import (
    FileKind,
    Header,
    companion,
    is_readable_in_place,
    log_bytes,
    read_header,
)
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.errors import NothingFoundError, UnusableDatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCHANGED = "nothing was changed"


@contextmanager
def merge_source(path: Path) -> Iterator[sa.Engine]:
    """Yield an engine that reads a file to be merged, after a check of the whole file. NothingFoundError if there
    is no file; UnusableDatabaseError if it is foreign, newer, truncated or damaged.
    """
    header = _checked_header(path)
    with ExitStack() as stack:
        try:
            engine = read_only_engine(stack, path, header)
            with engine.connect() as connection, connection.begin():
                check = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise _damaged(path, str(getattr(error, "orig", None) or error)) from error
        if check != "ok":
            raise _damaged(path, str(check))
        yield engine


def read_only_engine(stack: ExitStack, path: Path, header: Header) -> sa.Engine:
    """Return an engine that reads a database of orch without write access. `stack` closes it and removes its copy;
    `header`: the result of `read_header` for the file.
    """
    file = _readable_file(stack, path, header)
    url = sa.URL.create("sqlite", database=f"file:{quote(str(file))}", query=_READ_ONLY)
    engine = make_engine(url)
    stack.callback(engine.dispose)
    return engine


_READ_ONLY = {"mode": "ro", "immutable": "1", "uri": "true"}
"""The options of a read-only connection. `immutable` makes SQLite create no file beside the database; nobody
writes it, because it has no log or is a copy.
"""


def _damaged(path: Path, reason: str) -> UnusableDatabaseError:
    return UnusableDatabaseError(
        f"the database {path} is damaged: {reason}",
        remedy=f"merge the others without it, or take it from a backup; {UNCHANGED}",
    )


def _checked_header(path: Path) -> Header:
    header = read_header(path)
    match header.kind:
        case FileKind.ABSENT:
            raise NothingFoundError(f"there is no database {path}", remedy="name the files to merge")
        case FileKind.FOREIGN | FileKind.NOISE:
            raise UnusableDatabaseError(
                f"{path} is {header.kind.value}, not one of orch",
                remedy=f"name databases that orch has written, such as .orch/resources.db; {UNCHANGED}",
            )
        case FileKind.OURS:
            migrate.refuse_unsupported(header.version, path)
    if header.cut_short or header.version < 1:
        raise _damaged(path, "it is shorter than it says" if header.cut_short else "it has no schema")
    return header


def _readable_file(stack: ExitStack, path: Path, header: Header) -> Path:
    """Return the file itself if nobody writes it and its schema is current, otherwise a copy that is upgraded."""
    if is_readable_in_place(path, header):
        return path.absolute()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-database-")))
    copy = folder / "source.db"
    if companion(path, "-shm").exists() and log_bytes(path) > 0:
        _copy_of_written_file(path, copy)
    else:
        _copy_of_unused_file(path, copy)
    engine = make_engine(sa.URL.create("sqlite", database=str(copy)))
    try:
        with engine.connect() as connection:
            version = migrate.stored_version(connection)
        migrate.refuse_unsupported(version, path)
        if version != SCHEMA_VERSION:
            migrate.upgrade(engine, None)
    finally:
        engine.dispose()
    return copy


def _copy_of_written_file(path: Path, copy: Path) -> None:
    """Copy with SQLite's backup call, because another process may be writing the file."""
    source = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=60)
    target = sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        target.close()
        source.close()


def _copy_of_unused_file(path: Path, copy: Path) -> None:
    """Copy the file with its log and journal, which SQLite replays in the copy."""
    for suffix in ("", "-wal", "-journal"):
        if companion(path, suffix).exists():
            shutil.copyfile(companion(path, suffix), companion(copy, suffix))
    opened = sqlite3.connect(copy)
    try:
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        opened.close()

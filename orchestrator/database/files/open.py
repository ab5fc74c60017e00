"""Open a database whatever its file contains: create it, upgrade it, refuse it, or set it aside and begin a new
one. For reading only, nothing is created, upgraded or set aside: docs/design/database/reading.md.

No file is overwritten. The file is inspected before SQLite opens it, because opening it already changes files:
SQLite replays or deletes a log.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.database.files import migrate, read_only, sqlite_file
from orchestrator.database.files.connect import (
    database_error,
    is_corrupt,
    make_engine,
    parse_url,
    sqlite_path,
)
from orchestrator.database.files.prepare import prepare_sqlite
from orchestrator.database.files.sqlite_file import FileKind, WalLog, companion
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.errors import UnusableDatabaseError
from orchestrator.files import spare_folders

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# The number of open databases of each file in this process. Reading the bytes of an open file and closing it would
# release SQLite's POSIX locks on it (https://www.sqlite.org/howtocorrupt.html, 2.2), so only the first open of a
# file inspects it.
_open_here: Counter[str] = Counter()
_lock = threading.Lock()


@dataclass(slots=True, kw_only=True)
class OpenedDatabase:
    """An engine on a database of orch that is intact and has the current schema."""

    engine: sa.Engine
    path: Path | None
    """The SQLite file, or None for a server."""
    notices: list[str] = field(default_factory=list)
    writable: bool = True
    """False if the database was opened for reading only, in place or in a copy."""
    resources: ExitStack = field(default_factory=ExitStack)
    """Resources that are released with the database, such as the folder of a copy."""

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self.resources.close()
        if self.path is not None:
            with _lock:
                _open_here[str(self.path)] -= 1


def open_database(url: str | None, *, state_dir: Path, reading: bool = False) -> OpenedDatabase:
    """Open the database at `url`, or `resources.db` in the state folder. DatabaseError if it cannot be opened.

    `reading`: a file that is foreign, damaged or newer is refused and left unchanged, none is created (a missing
    one is read as empty), and write access is not needed.
    """
    parsed = _parsed(url, state_dir)
    if parsed.get_backend_name() != "sqlite":
        return _open_server(parsed)
    path = sqlite_path(parsed)
    with _lock:
        inspect = _open_here[str(path)] == 0
        try:
            if reading:
                opened = _open_to_read(parsed, path, inspect=inspect)
            else:
                opened = _open_sqlite(parsed, path, ours=url is None, inspect=inspect)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise database_error(error, "open", path) from error
        _open_here[str(path)] += 1
    return opened


def location_of(url: str | None, *, state_dir: Path) -> str:
    """Return the file or the URL that `open_database` opens, without a password. UsageError for an invalid URL."""
    parsed = _parsed(url, state_dir)
    if parsed.get_backend_name() == "sqlite":
        return str(sqlite_path(parsed))
    return parsed.render_as_string(hide_password=True)


def fallback_spool_folders(url: str | None, *, state_dir: Path) -> tuple[Path, ...]:
    """Return the folders in which results for this database are spooled when its own disk is full. They belong to
    this database only.
    """
    place = location_of(url, state_dir=state_dir.resolve())
    name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return spare_folders(f"spool-{name}")


def _parsed(url: str | None, state_dir: Path) -> URL:
    if url is not None:
        return parse_url(url)
    return sa.URL.create("sqlite", database=str(sqlite_file.database_file(state_dir).absolute()))


def _open_server(url: URL) -> OpenedDatabase:
    engine = make_engine(url)
    notices: list[str] = []
    place = url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection, connection.begin():
            migrate.lock_schema(connection)
            version = migrate.stored_version(connection)
            if version is None:
                migrate.create_schema(connection)
        migrate.refuse_unsupported(version, place)
        if version is not None and version < SCHEMA_VERSION:
            notices.append(migrate.upgrade(engine, None))
    except BaseException as error:
        engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise database_error(error, "open", place) from error
        raise
    return OpenedDatabase(engine=engine, path=None, notices=notices)


def _open_sqlite(url: URL, path: Path, *, ours: bool, inspect: bool) -> OpenedDatabase:
    notices: list[str] = []
    migrate.remove_abandoned_drafts(path)
    log = _inspect(path, ours=ours, notices=notices) if inspect else None
    try:
        return _create_or_open(url, path, log, notices)
    except (DBAPIError, sqlite3.Error) as error:
        if not inspect or not is_corrupt(error):
            raise
        kept = sqlite_file.set_aside(path)
        notices.append(f"{path} is damaged ({_reason(error)}): it is kept as {kept}; {_NEW_ONE}")
    return _create_or_open(url, path, None, notices)


def _create_or_open(url: URL, path: Path, log: WalLog | None, notices: list[str]) -> OpenedDatabase:
    if not path.exists() or path.stat().st_size == 0:
        migrate.create_sqlite(url, path)
    return _open_file(url, path, log, notices)


def _open_file(url: URL, path: Path, log: WalLog | None, notices: list[str]) -> OpenedDatabase:
    engine = make_engine(url)
    try:
        prepare_sqlite(engine, path, log, notices)
    except BaseException:
        engine.dispose()
        raise
    return OpenedDatabase(engine=engine, path=path, notices=notices)


def _open_to_read(url: URL, path: Path, *, inspect: bool) -> OpenedDatabase:
    """Open a file for reading: in place if that changes nothing, so that a run can continue to write it, otherwise
    as an unchangeable file or in a copy.
    """
    if not inspect:
        return _open_in_place(url, path, None)
    header = sqlite_file.read_header(path)
    if header.kind is FileKind.ABSENT:
        return _open_empty(path)
    _refuse_unreadable(path, header)
    if header.version == SCHEMA_VERSION and _may_write(path):
        with suppress(DBAPIError, sqlite3.Error):
            return _open_in_place(url, path, sqlite_file.read_wal(path))
    with ExitStack() as stack:
        engine = read_only.read_only_engine(stack, path, header)
        return OpenedDatabase(engine=engine, path=path, writable=False, resources=stack.pop_all())


def _open_in_place(url: URL, path: Path, log: WalLog | None) -> OpenedDatabase:
    try:
        return _open_file(url, path, log, [])
    except (DBAPIError, sqlite3.Error) as error:
        if is_corrupt(error):
            raise _refused(path, f"is damaged ({_reason(error)})") from error
        raise


def _open_empty(path: Path) -> OpenedDatabase:
    """Open an empty database in a temporary folder in place of the missing file at `path`."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-database-"))
        empty = Path(folder, path.name)
        url = sa.URL.create("sqlite", database=str(empty))
        migrate.create_sqlite(url, empty)
        return OpenedDatabase(engine=make_engine(url), path=path, writable=False, resources=stack.pop_all())


def _refuse_unreadable(path: Path, header: sqlite_file.Header) -> None:
    """Raise UnusableDatabaseError for a file that a run would set aside or refuse."""
    if header.kind is not FileKind.OURS:
        raise _refused(path, f"is {header.kind.value}, not one of orch")
    migrate.refuse_unsupported(header.version, path)
    if header.cut_short:
        raise _refused(path, "is damaged (it is shorter than it says)")
    log = sqlite_file.read_wal(path)
    if log is not None and not log.valid_header:
        raise _refused(path, "has a damaged write-ahead log")


def _may_write(path: Path) -> bool:
    """Return True if this process may write the file and create files beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


_NEW_ONE = "a new one is begun without the records of earlier runs"


def _refused(path: Path, what: str) -> UnusableDatabaseError:
    return UnusableDatabaseError(
        f"{path} {what}",
        remedy="nothing was changed. Restore it from a backup, or name another file with --db; `orch run` sets a "
        "damaged or foreign .orch/resources.db aside and begins a new one",
    )


def _reason(error: BaseException) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _inspect(path: Path, *, ours: bool, notices: list[str]) -> WalLog | None:
    """Inspect the database file and set it aside if it is foreign or truncated. Return what its write-ahead log
    claims to contain, or None if there is none.
    """
    header = sqlite_file.read_header(path)
    match header.kind:
        case FileKind.ABSENT:
            if companion(path, "-wal").exists():
                notices.append(f"a log without its database is kept as {sqlite_file.set_aside(path)}-wal")
            return None
        case FileKind.FOREIGN | FileKind.NOISE:
            if not ours:  # the user named the file: another program may use it
                raise _refused(path, f"is {header.kind.value}, not one of orch")
            kept = sqlite_file.set_aside(path)
            notices.append(f"{path} was {header.kind.value}, not one of orch: it is kept as {kept}; {_NEW_ONE}")
            return None
        case FileKind.OURS:
            migrate.refuse_unsupported(header.version, path)
    if header.cut_short:
        kept = sqlite_file.set_aside(path)
        notices.append(f"{path} is damaged (it is shorter than it says): it is kept as {kept}; {_NEW_ONE}")
        return None
    return _inspect_log(path, notices)


def _inspect_log(path: Path, notices: list[str]) -> WalLog | None:
    log = sqlite_file.read_wal(path)
    if log is not None and log.torn:
        time.sleep(0.05)  # another run may be writing a frame at this moment
        log = sqlite_file.read_wal(path)
    if log is None or log.valid_header:
        return log
    kept = sqlite_file.free_name(companion(path, "-wal"), "set-aside")
    companion(path, "-wal").rename(kept)
    notices.append(f"the write-ahead log of {path} is damaged: it is kept as {kept}; its last results are lost")
    return log

"""Opens a database, whatever the file turns out to be: makes, migrates, refuses, or sets it aside. Who only reads
makes, migrates and sets aside nothing: docs/design/reading.md.

Nothing is overwritten. The file is judged before SQLite touches it, because opening already changes files: a
log is replayed or dropped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
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
    WRITE,
    database_error,
    is_corrupt,
    make_engine,
    parse_url,
    pragma,
    sqlite_path,
)
from orchestrator.database.files.sqlite_file import FileKind, WalLog, companion
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.errors import UnusableDatabaseError
from orchestrator.files import spare_folders

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# Files open in this process. Reading such a file by ourselves and closing it would drop SQLite's POSIX locks
# on it (https://www.sqlite.org/howtocorrupt.html, 2.2), so only the first open of a file looks at it.
_open_here: Counter[str] = Counter()
_lock = threading.Lock()


@dataclass(slots=True, kw_only=True)
class OpenedDatabase:
    """An engine on a database that is ours, whole and up to date."""

    engine: sa.Engine
    path: Path | None
    """None: not SQLite."""
    notices: list[str] = field(default_factory=list)
    writable: bool = True
    """False: it was opened to be read, where it is or in a copy, and cannot be written."""
    held: ExitStack = field(default_factory=ExitStack)
    """What it needs besides, such as the folder of a copy."""

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self.held.close()
        if self.path is not None:
            with _lock:
                _open_here[str(self.path)] -= 1


def open_database(url: str | None, *, state_dir: Path, reading: bool = False) -> OpenedDatabase:
    """Open the database at `url`, or `resources.db` in the state folder. DatabaseError if that cannot be.

    `reading`: what is not ours, damaged or newer is refused and left as it is, none is made where there is none
    (an empty one is read), and no right to write is needed.
    """
    parsed = _parsed(url, state_dir)
    if parsed.get_backend_name() != "sqlite":
        return _open_server(parsed)
    path = sqlite_path(parsed)
    with _lock:
        look = _open_here[str(path)] == 0
        try:
            if reading:
                opened = _open_to_read(parsed, path, look=look)
            else:
                opened = _open_sqlite(parsed, path, ours=url is None, look=look)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise database_error(error, "open", path) from error
        _open_here[str(path)] += 1
    return opened


def location_of(url: str | None, *, state_dir: Path) -> str:
    """Where `open_database` finds it, without a password. UsageError for a URL that cannot be."""
    parsed = _parsed(url, state_dir)
    if parsed.get_backend_name() == "sqlite":
        return str(sqlite_path(parsed))
    return parsed.render_as_string(hide_password=True)


def fallback_spool_folders(url: str | None, *, state_dir: Path) -> tuple[Path, ...]:
    """Folders where results for this database, and no other, are spooled when its own disk is full."""
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


def _open_sqlite(url: URL, path: Path, *, ours: bool, look: bool) -> OpenedDatabase:
    notices: list[str] = []
    migrate.remove_abandoned_drafts(path)
    log = _inspect(path, ours=ours, notices=notices) if look else None
    for last_try in (False, True):
        if not path.exists() or path.stat().st_size == 0:
            migrate.create_sqlite(url, path)
        engine = make_engine(url)
        try:
            _settle(engine, path, log, notices)
        except (DBAPIError, sqlite3.Error) as error:
            engine.dispose()
            if last_try or not look or not is_corrupt(error):
                raise
            notices.append(
                f"{path} is damaged ({_reason(error)}): it is kept as {sqlite_file.set_aside(path)}; {_ANEW}"
            )
            log = None
        except BaseException:
            engine.dispose()
            raise
        else:
            return OpenedDatabase(engine=engine, path=path, notices=notices)
    raise AssertionError("unreachable: the second try returns or raises")


def _open_to_read(url: URL, path: Path, *, look: bool) -> OpenedDatabase:
    """In place where that changes nothing: like a run, so that a living one may go on. Else as it stands."""
    stack = ExitStack()
    header = sqlite_file.read_header(path) if look else None
    if header is not None and header.kind is FileKind.ABSENT:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="orch-database-"))
        empty = Path(folder, path.name)
        migrate.create_sqlite(sa.URL.create("sqlite", database=str(empty)), empty)
        engine = make_engine(sa.URL.create("sqlite", database=str(empty)))
        return OpenedDatabase(engine=engine, path=path, writable=False, held=stack)
    if header is not None:
        _judge_to_read(path, header)
    if header is None or (header.version == SCHEMA_VERSION and _may_write(path)):
        engine = make_engine(url)
        try:
            notices: list[str] = []
            _settle(engine, path, sqlite_file.read_wal(path) if look else None, notices)
        except (DBAPIError, sqlite3.Error) as error:
            engine.dispose()
            if is_corrupt(error):
                raise _refused(path, f"is damaged ({_reason(error)})") from error
            if header is None:
                raise
        except BaseException:
            engine.dispose()
            raise
        else:
            return OpenedDatabase(engine=engine, path=path, notices=notices)
    try:
        assert header is not None  # noqa: S101 - for the type checker: else it is open or an error
        return OpenedDatabase(
            engine=read_only.read_only_engine(stack, path, header), path=path, writable=False, held=stack
        )
    except BaseException:
        stack.close()
        raise


def _judge_to_read(path: Path, header: sqlite_file.Header) -> None:
    """UnusableDatabaseError for what a run would set aside or cannot use."""
    if header.kind is not FileKind.OURS:
        raise _refused(path, f"is {header.kind.value}, not one of orch")
    migrate.refuse_unsupported(header.version, path)
    if header.cut_short:
        raise _refused(path, "is damaged (it is shorter than it says)")
    log = sqlite_file.read_wal(path)
    if log is not None and not log.valid_header:
        raise _refused(path, "has a damaged write-ahead log")


def _may_write(path: Path) -> bool:
    """True if this process may write the file and make others beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


_ANEW = "a new one is begun, without what earlier runs have recorded"


def _refused(path: Path, what: str) -> UnusableDatabaseError:
    return UnusableDatabaseError(
        f"{path} {what}",
        remedy="nothing was changed. Restore it from a backup, or name another file with --db; `orch run` sets a "
        "damaged or foreign .orch/resources.db aside and begins a new one",
    )


def _reason(error: BaseException) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _inspect(path: Path, *, ours: bool, notices: list[str]) -> WalLog | None:
    """Judge the files; what is not ours or is cut short goes aside. Returns what the log claims to hold."""
    header = sqlite_file.read_header(path)
    match header.kind:
        case FileKind.ABSENT:
            if companion(path, "-wal").exists():
                notices.append(f"a log without its database is kept as {sqlite_file.set_aside(path)}-wal")
            return None
        case FileKind.FOREIGN | FileKind.NOISE:
            if not ours:  # the user named it: it may be in use by its owner
                raise _refused(path, f"is {header.kind.value}, not one of orch")
            kept = sqlite_file.set_aside(path)
            notices.append(f"{path} was {header.kind.value}, not one of orch: it is kept as {kept}; {_ANEW}")
            return None
        case FileKind.OURS:
            migrate.refuse_unsupported(header.version, path)
    if header.cut_short:
        kept = sqlite_file.set_aside(path)
        notices.append(f"{path} is damaged (it is shorter than it says): it is kept as {kept}; {_ANEW}")
        return None
    return _inspect_log(path, notices)


def _inspect_log(path: Path, notices: list[str]) -> WalLog | None:
    log = sqlite_file.read_wal(path)
    if log is not None and log.torn:
        time.sleep(0.05)  # another run may be writing right now
        log = sqlite_file.read_wal(path)
    if log is None or log.valid_header:
        return log
    kept = sqlite_file.free_name(companion(path, "-wal"), "set-aside")
    companion(path, "-wal").rename(kept)
    notices.append(f"the write-ahead log of {path} is damaged: it is kept as {kept}; its last results are lost")
    return log


def _settle(engine: sa.Engine, path: Path, log: WalLog | None, notices: list[str]) -> None:
    """Choose the journal, check what has reason to be checked, migrate."""
    _choose_journal(engine, path, notices)
    doubtful = _suspect(path).exists()
    if log is not None:
        doubtful |= not log.valid_header or _keep_lost_log(engine, path, log, notices)
    if doubtful:
        _check(engine)
        _suspect(path).unlink(missing_ok=True)
    with engine.connect() as connection:
        version = migrate.stored_version(connection)
    migrate.refuse_unsupported(version, path)
    if version != SCHEMA_VERSION:
        notices.append(migrate.upgrade(engine, path))


def _choose_journal(engine: sa.Engine, path: Path, notices: list[str]) -> None:
    network = sqlite_file.network_file_system(path)
    wanted = "delete" if network else "wal"
    (mode,) = pragma(engine, "journal_mode")[0]
    if mode != wanted:
        (mode,) = pragma(engine, f"journal_mode = {wanted}")[0]
    if network:
        notices.append(f"{path} is on a network file system ({network}): writing is slower, without a log")
    elif mode != "wal":
        notices.append(f"the file system of {path} cannot hold a write-ahead log: writing is slower")


def _keep_lost_log(engine: sa.Engine, path: Path, log: WalLog, notices: list[str]) -> bool:
    """Copy the log if it held more commits than SQLite could read; nothing has been written over it yet."""
    rows = pragma(engine, "wal_checkpoint(PASSIVE)")
    readable = int(rows[0][1]) if rows else 0
    now = sqlite_file.read_wal_salt(path)
    if now != log.salt or (readable >= log.committed_frames and not log.torn):
        return False
    kept = sqlite_file.free_name(companion(path, "-wal"), "set-aside")
    shutil.copyfile(companion(path, "-wal"), kept)
    notices.append(
        f"the write-ahead log of {path} is cut or damaged: what could be read of it was, a copy is in {kept}"
    )
    return True


def _check(engine: sa.Engine) -> None:
    problems = [str(row[0]) for row in pragma(engine, "quick_check(1)")]
    if problems != ["ok"]:
        error = sqlite3.DatabaseError(problems[0] if problems else "no answer from the check")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _suspect(path: Path) -> Path:
    return companion(path, ".suspect")


def mark_suspect(path: Path) -> None:
    """Have the next open check the whole file: SQLite reported damage in the middle of a run. Where there is no
    room for the mark, whoever comes upon the damage next says so again.
    """
    with suppress(OSError):
        _suspect(path).touch()


def read_connection(engine: sa.Engine) -> sa.Connection:
    """A connection whose transactions see one consistent state throughout, as SQLite's always do."""
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ")


def write_connection(engine: sa.Engine) -> sa.Connection:
    """A connection whose transactions take the write lock at once."""
    return engine.connect().execution_options(**WRITE)

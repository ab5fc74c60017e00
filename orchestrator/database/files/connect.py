"""Connect to a database: make a SQLAlchemy engine from a URL, set the pragmas, and turn errors into
DatabaseError.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from orchestrator.errors import DatabaseError, UnusableDatabaseError, UsageError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

BUSY_TIMEOUT_SECONDS = 60
WRITE = {"orch_write": True}
"""Execution options of a connection that will write: it takes the write lock of SQLite when it begins."""

_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REMEDIES = {
    sqlite3.SQLITE_FULL: "free some disk space, or name another place with --db",
    sqlite3.SQLITE_READONLY: "make the state folder writable, or name another place with --db",
    sqlite3.SQLITE_CANTOPEN: "see that the state folder can be written, or name another place with --db",
    sqlite3.SQLITE_BUSY: "another program keeps the database locked: end it, then try again",
    sqlite3.SQLITE_IOERR: "see to the disk's space and health, or name another place with --db",
}


def parse_url(url: str) -> URL:
    """Return the URL of a supported database, given as a URL or as the path of a file. UsageError for anything
    else.
    """
    remedy = "write path/to/file.db, sqlite:////absolute/path.db or postgresql://user@host/name"
    if "://" not in url and ("/" in url or "." in url):
        return sa.URL.create("sqlite", database=str(Path(url).expanduser().absolute()))
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise UsageError("the database URL cannot be read", remedy=remedy) from None
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise UsageError(f"the database {backend!r} is not supported", remedy=remedy)
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise UsageError("a database in memory would keep nothing", remedy=remedy)
    if parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def sqlite_path(url: URL) -> Path:
    """Return the file that a SQLite URL names, also in the form `file:PATH`."""
    name = (url.database or "").removeprefix("file:")
    return Path(name).absolute()


def make_engine(url: URL) -> sa.Engine:
    """Return an engine. Its SQLite connections wait for locks, enforce foreign keys and begin transactions
    explicitly. UsageError if the driver is missing.
    """
    try:
        if url.get_backend_name() != "sqlite":
            return sa.create_engine(url, pool_pre_ping=True)
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    except (ModuleNotFoundError, ArgumentError) as error:
        raise UsageError(
            f"no driver for the database: {error}", remedy="pip install 'orch-runner[postgres]'"
        ) from error
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def read_connection(engine: sa.Engine) -> sa.Connection:
    """Return a connection whose transactions see one consistent state throughout, as those of SQLite always do."""
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ")


def write_connection(engine: sa.Engine) -> sa.Connection:
    """Return a connection whose transactions take the write lock when they begin."""
    return engine.connect().execution_options(**WRITE)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # `_begin` begins transactions, not the sqlite3 module
    for pragma in ("foreign_keys = ON", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A deferred transaction that reads first and writes later can fail at once with "locked", whatever the
    # timeout.
    write = connection.get_execution_options().get("orch_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def pragma(engine: sa.Engine, statement: str) -> list[Any]:
    """Execute a PRAGMA outside a transaction, and return its rows."""
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA {statement}")
        return list(cursor.fetchall())
    finally:
        raw.close()


def outside_transaction(engine: sa.Engine, statement: str) -> None:
    """Execute a statement that must not run in a transaction, such as VACUUM."""
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)
        return
    raw = engine.raw_connection()  # on a SQLAlchemy connection, `_begin` would begin a transaction
    try:
        raw.cursor().execute(statement)
    finally:
        raw.close()


def error_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code of an error, or None for other errors."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def is_corrupt(error: BaseException) -> bool:
    """Return True if SQLite reports that the file is damaged."""
    return error_code(error) in _CORRUPT_CODES


def database_error(error: SQLAlchemyError | sqlite3.Error | OSError, doing: str, place: object) -> DatabaseError:
    """Return the error for the user: what failed, on which database, why, and what to do. `doing`: a verb such as
    `read`.
    """
    reason = " ".join((str(error.orig) if isinstance(error, DBAPIError) else str(error)).split())
    if is_corrupt(error) and doing == "read":
        return UnusableDatabaseError(
            f"the resource database {place} is damaged: {reason}",
            remedy="nothing was changed. Restore it from a backup, or name another file with --db; the next run "
            "checks it and sets it aside",
        )
    remedy = _REMEDIES.get(error_code(error) or -1, "run `orch doctor`")
    if "://" in str(place):
        remedy = "see that the server answers, and that name, user and password are right"
    return DatabaseError(f"cannot {doing} the resource database {place}: {reason}", remedy=remedy)

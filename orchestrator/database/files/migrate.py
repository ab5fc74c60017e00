"""Create a new database, or upgrade an older one after a backup. Alembic is imported only for an upgrade."""

from __future__ import annotations

import glob
import os
import sqlite3
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.schema import SetColumnComment, SetTableComment

from orchestrator.database.files.connect import WRITE, make_engine, pragma
from orchestrator.database.files.sqlite_file import free_name
from orchestrator.database.schema.tables import identity, metadata
from orchestrator.database.schema.version import APPLICATION_ID, OLDEST_VERSION, SCHEMA_VERSION
from orchestrator.database.schema.views import VIEWS, create_statement
from orchestrator.errors import DatabaseError, UnusableDatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

ABANDONED_SECONDS = 60
# The exact definition of Alembic's own table, so that Alembic recognises it.
_VERSION_TABLE = (
    "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
)


def revision(version: int) -> str:
    """Return Alembic's name of a schema version, such as `0002`."""
    return f"{version:04d}"


def create_sqlite(url: URL, path: Path) -> None:
    """Create a new database file. It appears complete or not at all; a file that another process creates meanwhile
    is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new-{os.getpid()}")
    draft.unlink(missing_ok=True)
    engine = make_engine(url.set(database=str(url.database).removesuffix(path.name) + draft.name))
    try:
        pragma(engine, "auto_vacuum = INCREMENTAL")
        with engine.connect().execution_options(**WRITE) as connection, connection.begin():
            create_schema(connection)
        engine.dispose()
        if path.exists() and path.stat().st_size == 0:
            draft.replace(path)
            return
        _publish(draft, path)
    finally:
        engine.dispose()
        draft.unlink(missing_ok=True)


def remove_abandoned_drafts(path: Path) -> None:
    """Remove unfinished files of killed processes. Creating a database takes a moment, so an older file is
    abandoned.
    """
    for draft in path.parent.glob(f"{glob.escape(path.name)}.new-*"):
        with suppress(OSError):
            pid = draft.name.removeprefix(f"{path.name}.new-").partition("-")[0]
            old = time.time() - draft.stat().st_mtime > ABANDONED_SECONDS
            if old or not Path("/proc", pid).exists():
                draft.unlink()


def _publish(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        return  # another run has created the database
    except OSError:  # the file system has no hard links
        draft.rename(path)


def create_schema(connection: sa.Connection) -> None:
    """Create all tables and views, and store the schema version."""
    metadata.create_all(connection)
    for view in VIEWS:
        connection.exec_driver_sql(create_statement(view, connection.dialect.name))
    connection.exec_driver_sql(_VERSION_TABLE)
    connection.execute(identity.insert(), {"id": str(uuid.uuid4())})
    connection.execute(
        sa.text("INSERT INTO alembic_version (version_num) VALUES (:v)"), {"v": revision(SCHEMA_VERSION)}
    )
    mark_sqlite(connection)


def mark_sqlite(connection: sa.Connection) -> None:
    """Write the application id and the schema version into SQLite's file header, where they can be read without a
    query.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def write_comments(connection: sa.Connection) -> None:
    """Store the present comments of all tables and columns in PostgreSQL. SQLite stores no comments."""
    if connection.dialect.name == "postgresql":
        for table in metadata.sorted_tables:
            connection.execute(SetTableComment(table))
            for column in table.columns:
                connection.execute(SetColumnComment(column))


def stored_version(connection: sa.Connection) -> int | None:
    """Return the stored schema version, or None if the database has no schema of orch."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return int(str(found)) if str(found).isdecimal() else None


def lock_schema(connection: sa.Connection) -> None:
    """Wait until no other orch creates or upgrades the schema, and prevent it until the transaction ends. SQLite
    needs no lock of its own: it has one writer at a time.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({APPLICATION_ID})")


def refuse_unsupported(version: int | None, place: object) -> None:
    """Raise UnusableDatabaseError if the schema is newer than this orch, or too old to be upgraded. None: there is
    no schema yet, which is not an error.
    """
    if version is not None and version > SCHEMA_VERSION:
        raise UnusableDatabaseError(
            f"the resource database {place} has schema {version}; this orch knows up to {SCHEMA_VERSION}",
            remedy="upgrade orch, or name another database with --db; nothing was changed",
        )
    if 0 < (version or 0) < OLDEST_VERSION:
        raise UnusableDatabaseError(
            f"the resource database {place} has schema {version}; this orch upgrades {OLDEST_VERSION} and later",
            remedy="name another database with --db, or move this one away; nothing was changed",
        )


def upgrade(engine: sa.Engine, path: Path | None) -> str:
    """Upgrade an older schema, and return a notice that names the backup. `path`: the SQLite file, which is backed
    up first, or None.
    """
    backup = None if path is None else back_up(path)
    with engine.connect().execution_options(**WRITE) as connection:
        sqlite = connection.dialect.name == "sqlite"
        raw: object = connection.connection.dbapi_connection
        if isinstance(raw, sqlite3.Connection):
            # Batch mode drops and re-creates tables, which would delete rows by cascade with foreign keys on.
            raw.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            lock_schema(connection)
            version = stored_version(connection)
            if version != SCHEMA_VERSION:  # otherwise another run has upgraded it
                run_alembic(connection)
                mark_sqlite(connection)
                write_comments(connection)
            if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise DatabaseError(
                    f"the migration of {path} would leave rows that belong to nothing; it was undone",
                    remedy=f"report this, with the backup {backup}",
                )
        if sqlite:
            connection.invalidate()  # the next connection has foreign keys on again
    if sqlite:
        pragma(engine, "wal_checkpoint(TRUNCATE)")
    kept = "no backup was made, that is up to the server" if backup is None else f"a copy is in {backup}"
    return f"the resource database was brought from schema {version} to {SCHEMA_VERSION}; {kept}"


def run_alembic(connection: sa.Connection, target: str = "head") -> None:
    """Run the revisions up to `target` on a connection that is in a transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def back_up(path: Path) -> Path:
    """Make a consistent copy of the database file beside it, including its write-ahead log, and return its
    path.
    """
    target = free_name(path, "backup")
    source = sqlite3.connect(path, timeout=60)
    try:
        source.execute("VACUUM INTO ?", (str(target),))
    finally:
        source.close()
    return target

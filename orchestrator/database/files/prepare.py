"""Prepare an open SQLite file: set the journal mode, check it where damage is suspected, upgrade the
schema.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.database.files import migrate, sqlite_file
from orchestrator.database.files.connect import pragma
from orchestrator.database.files.sqlite_file import companion
from orchestrator.database.schema.version import SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy as sa

    from orchestrator.database.files.sqlite_file import WalLog


def prepare_sqlite(engine: sa.Engine, path: Path, log: WalLog | None, notices: list[str]) -> None:
    """Prepare a file for use, and append messages for the user to `notices`. `log`: its write-ahead log before
    SQLite opened it. Raises the SQLite error SQLITE_CORRUPT if the check finds damage.
    """
    _set_journal_mode(engine, path, notices)
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


def _set_journal_mode(engine: sa.Engine, path: Path, notices: list[str]) -> None:
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
    """Copy the write-ahead log and return True if it contained more commits than SQLite could read. Nothing has
    been written over it yet.
    """
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
    """Make the next open check the whole file, because SQLite reported damage during a run. If there is no room
    for the mark, the next error marks it again.
    """
    with suppress(OSError):
        _suspect(path).touch()

"""Spool results in files of JSON lines while the database cannot be written. The next open imports them.

The writer locks its file, so that another process which opens the database does not import the file of a running
run.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from orchestrator.database.files import sqlite_file
from orchestrator.database.files.connect import write_connection
from orchestrator.database.rows.bundles import COPIED_FROM_ATTEMPT, Bundle
from orchestrator.database.store import writer
from orchestrator.files import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import sqlalchemy as sa

_VERSION = 1
_KINDS = frozenset({"begin", "result", "finish"})


def to_line(bundle: Bundle) -> str:
    """Return a bundle as one line of JSON. Times and bytes are tagged, so that `from_line` restores their
    types.
    """
    content = {"version": _VERSION, "kind": bundle.kind, "run_id": bundle.run_id, "tables": bundle.tables}
    return json.dumps(content, default=_mark, separators=(",", ":"))


def from_line(line: str) -> Bundle:
    """Return the bundle of a line that `to_line` made. ValueError for any other line."""
    content = json.loads(line, object_hook=_unmark)
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise ValueError("not a spooled bundle of a known version")
    if content.get("kind") not in _KINDS or not isinstance(content.get("tables"), dict):
        raise ValueError("a spooled bundle without a kind or tables")
    return Bundle(kind=content["kind"], run_id=str(content.get("run_id")), tables=content["tables"])


def _mark(value: object) -> dict[str, str]:
    match value:
        case datetime():
            return {"$time": value.isoformat()}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        case _:
            raise TypeError(f"{type(value).__name__} cannot be spooled")


def _unmark(value: dict[str, Any]) -> object:
    match value:
        case {"$time": str(text)} if len(value) == 1:
            return datetime.fromisoformat(text)
        case {"$bytes": str(text)} if len(value) == 1:
            return base64.b64decode(text, validate=True)
        case _:
            return value


class Spool:
    """The spool of one run, in the first folder that has room. It creates no file before the first `add`."""

    def __init__(self, run_id: str, folders: Sequence[Path]) -> None:
        self._name = f"{run_id}.jsonl"
        self._folders = tuple(folders)
        self._descriptors: dict[Path, int] = {}
        self._waiting: list[bytes] = []

    @property
    def waiting(self) -> int:
        """The number of bundles for which no folder had room. Each `add` tries to write them again."""
        return len(self._waiting)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that were written."""
        return tuple(folder / self._name for folder in self._descriptors)

    def add(self, bundle: Bundle) -> None:
        """Write a bundle. If no folder has room, keep it in memory without an error."""
        self._waiting.append(to_line(bundle).encode() + b"\n")
        for folder in self._folders:
            try:
                self._write(folder)
            except OSError:
                continue
            return

    def _write(self, folder: Path) -> None:
        descriptor = self._descriptors.get(folder)
        if descriptor is None:
            descriptor = self._descriptors[folder] = _open_locked(folder / self._name)
        while self._waiting:
            length = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, self._waiting[0])
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, length)
                raise
            if written < len(self._waiting[0]):
                os.ftruncate(descriptor, length)  # remove the incomplete line
                raise OSError(errno.ENOSPC, "no room for a whole line")
            self._waiting.pop(0)

    def close(self) -> None:
        """Close and unlock the files, so that they can be imported, and delete empty ones."""
        for folder, descriptor in self._descriptors.items():
            if os.fstat(descriptor).st_size == 0:
                (folder / self._name).unlink(missing_ok=True)
            os.close(descriptor)
        self._descriptors.clear()


def _open_locked(path: Path) -> int:
    private_folder(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    if os.fstat(descriptor).st_nlink == 0:  # an import deleted the empty file between open and lock
        os.close(descriptor)
        raise OSError(errno.EAGAIN, "the spool file was removed while it was opened")
    return descriptor


@contextmanager
def locked_for_import(path: Path) -> Iterator[IO[str] | None]:
    """Yield the locked file for reading, or None if another process writes it or it does not exist."""
    try:
        file = path.open("r+", encoding="utf-8")
    except OSError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield file


def spool_files(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the spool files in order of their names. Folders that other users can write are ignored, because
    their files may be forged.
    """
    return tuple(path for folder in folders if _trusted(folder) for path in sorted(folder.glob("*.jsonl")))


def _trusted(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        private_folder(folder)
    except OSError:
        return False
    return True


def import_spools(engine: sa.Engine, folders: Sequence[Path]) -> list[str]:
    """Import all spool files that no running run has locked, and return notices about them."""
    return [notice for path in spool_files(folders) for notice in _import_file(engine, path)]


def _import_file(engine: sa.Engine, path: Path) -> list[str]:
    with locked_for_import(path) as file:
        if file is None:
            return []
        whole, broken = _read(file.read())
        try:
            with write_connection(engine) as connection, connection.begin():
                known: set[str] = set()
                new = sum(writer.write(connection, upgrade_bundle(bundle), known) for bundle in whole)
        except (DBAPIError, KeyError, TypeError, ValueError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else repr(error)
            return [f"spooled results in {path} could not be imported yet: {reason}"]
        notices = [f"{new} spooled records of {path} were imported"]
        if broken:
            kept = sqlite_file.free_name(path, "set-aside")
            path.rename(kept)
            notices.append(f"{broken} lines of {path} cannot be read: the file is kept as {kept}")
        else:
            path.unlink()
        return notices


def upgrade_bundle(bundle: Bundle) -> Bundle:
    """Return a bundle that an older orch spooled in the form of this version. Before schema 7, violations did not
    repeat columns of their attempt; before schema 8, projects had only names.
    """
    return _of_projects(_of_attempts(bundle))


def _of_projects(bundle: Bundle) -> Bundle:
    tables = dict(bundle.tables)
    if bundle.kind == "begin" and "projects" not in tables:
        named = [(run["project"], run["started_at"]) for run in tables["runs"]]
        tables["projects"] = [{"id": name, "name": name, "named_at": at} for name, at in named]
        tables["runs"] = [{**run, "project_id": run["project"]} for run in tables["runs"]]
    if any("project" in row for row in tables.get("tests", ())):
        tables["tests"] = [
            {("project_id" if name == "project" else name): value for name, value in row.items()}
            for row in tables["tests"]
        ]
    return replace(bundle, tables=tables)


def _of_attempts(bundle: Bundle) -> Bundle:
    violations = bundle.tables.get("violations", [])
    if all("test_id" in row for row in violations):
        return bundle
    attempts = {row["id"]: {name: row[name] for name in COPIED_FROM_ATTEMPT} for row in bundle.tables["attempts"]}
    broken = [attempts[row["attempt_id"]] | row for row in violations]
    return replace(bundle, tables={**bundle.tables, "violations": broken})


def _read(text: str) -> tuple[list[Bundle], int]:
    whole: list[Bundle] = []
    broken = 0
    for line in text.splitlines():
        try:
            whole.append(from_line(line))
        except ValueError:
            broken += 1
    return whole, broken

"""Brings spooled results into the database: at each open, all of a file or nothing of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from orchestrator.database import files, writing
from orchestrator.database.bundles import OF_ATTEMPT, Bundle
from orchestrator.database.opening import write_connection
from orchestrator.database.spool import claimed, from_line, spooled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import sqlalchemy as sa


def import_spools(engine: sa.Engine, folders: Sequence[Path]) -> list[str]:
    """Import every spool file that no living run holds; returns notices of what was done."""
    return [notice for path in spooled(folders) for notice in _import_file(engine, path)]


def _import_file(engine: sa.Engine, path: Path) -> list[str]:
    with claimed(path) as file:
        if file is None:
            return []
        whole, broken = _read(file.read())
        try:
            with write_connection(engine) as connection, connection.begin():
                known: set[str] = set()
                new = sum(writing.write(connection, completed(bundle), known) for bundle in whole)
        except (DBAPIError, KeyError, TypeError, ValueError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else repr(error)
            return [f"spooled results in {path} could not be imported yet: {reason}"]
        notices = [f"{new} spooled records of {path} were imported"]
        if broken:
            kept = files.free_name(path, "set-aside")
            path.rename(kept)
            notices.append(f"{broken} lines of {path} cannot be read: the file is kept as {kept}")
        else:
            path.unlink()
        return notices


def completed(bundle: Bundle) -> Bundle:
    """What an older orch has spooled, as this one would have: of before schema 7 violations without what they have
    from their attempt, of before schema 8 projects by their names.
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
    attempts = {row["id"]: {name: row[name] for name in OF_ATTEMPT} for row in bundle.tables["attempts"]}
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

"""Merge the contents of other databases into one. Any order and any number of merges give the same content.

Keys are UUIDs that are random or made from content, so a row with a stored key is the same row. Where two
databases differ, the result does not depend on the order: of a run, the more advanced status is kept; of a
project, the name used last; of a time series, the one with more points; of a day, the sums made from more attempts
(see `daily`).
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.files.connect import write_connection
from orchestrator.database.files.read_only import merge_source
from orchestrator.database.files.sqlite_file import read_header
from orchestrator.database.rollups import daily
from orchestrator.database.rows import projects
from orchestrator.database.rows.raw_rows import in_chunks
from orchestrator.database.rows.upserts import insert_missing
from orchestrator.database.schema import tables
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.database.store import maintenance
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orchestrator.database.store.store import Database

    Row = dict[str, Any]

ROWS_AT_ONCE = 2_000
_STATUSES = ("running", "interrupted", "finished")
_SAMPLES = ("none", "thinned", "full")
_LOCAL_COLUMNS = ("origin", "samples_kept")
_SHARED = (tables.hosts, tables.tests, tables.fact_sheets)
_RUN_TABLES = (tables.images, tables.ledger)
_ATTEMPT_TABLES = (tables.cases, tables.violations)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFile:
    """The result of merging one file."""

    path: Path
    runs: int
    """The number of runs that were not stored before."""
    attempts: int
    """The number of attempts that were not stored before."""
    version: int
    """The schema version of the file. An older file is upgraded in a copy."""

    @property
    def was_older(self) -> bool:
        """True if the file has an older schema."""
        return self.version < SCHEMA_VERSION


def merge(db: Database, paths: Sequence[Path]) -> tuple[MergedFile, ...]:
    """Merge files into the database, one after the other. The files are not changed.

    All files are opened before the first is merged. A run is merged whole or not at all, and an interrupted merge
    can be repeated. Raises the errors of `read_only.merge_source`, and UsageError if a file is the database
    itself.
    """
    for path in paths:
        if db.path is not None and path.exists() and path.samefile(db.path):
            raise UsageError(f"{path} is the database that would be merged into", remedy="name the other ones")
    with ExitStack() as stack:
        engines = [stack.enter_context(merge_source(path)) for path in paths]
        return tuple(_merge_file(db, path, engine) for path, engine in zip(paths, engines, strict=True))


def _merge_file(db: Database, path: Path, engine: sa.Engine) -> MergedFile:
    with db.writing() as target, engine.connect() as reader, reader.begin():
        merger = _Merger(reader, target)
        merger.shared()
        for run in merger.unknown_runs():
            merger.run(run)
        merger.days()
        maintenance.sum_up(target)
        return MergedFile(
            path=path, runs=merger.new_runs, attempts=merger.new_attempts, version=read_header(path).version
        )


class _Merger:
    """Copies rows from a connection to an engine, in one transaction for each run and each day."""

    def __init__(self, reader: sa.Connection, target: sa.Engine) -> None:
        self._reader = reader
        self._target = target
        self.new_runs = self.new_attempts = 0
        mine = sa.select(tables.identity.c.id)
        self._from = str(reader.execute(mine).scalar_one())
        with target.connect() as connection, connection.begin():
            self._into = str(connection.execute(mine).scalar_one())

    def shared(self) -> None:
        """Copy projects and rows whose keys are made from their content."""
        for rows in self._rows(sa.select(tables.projects)):
            with write_connection(self._target) as connection, connection.begin():
                projects.store_projects(connection, rows)
        for table in _SHARED:
            for rows in self._rows(sa.select(table)):
                with write_connection(self._target) as connection, connection.begin():
                    insert_missing(connection, table, rows)

    def unknown_runs(self) -> list[Row]:
        """Return the runs that the target lacks, or of which it may lack something."""
        states = sa.select(
            tables.runs.c.id,
            tables.runs.c.status,
            tables.runs.c.samples_kept,
            _number_of_attempts().label("number"),
        )
        with self._target.connect() as connection, connection.begin():
            known = {row.id: tuple(row) for row in connection.execute(states)}
        wanted = {row.id for row in self._reader.execute(states) if known.get(row.id) != tuple(row)}
        runs = self._reader.execute(sa.select(tables.runs).order_by(tables.runs.c.id)).mappings()
        return [dict(row) for row in runs if row["id"] in wanted]

    def run(self, run: Row) -> None:
        """Copy one run and everything that belongs to it."""
        attempts = tables.attempts
        with write_connection(self._target) as connection, connection.begin():
            self._run_row(connection, run)
            for table in _RUN_TABLES:
                for rows in self._rows(sa.select(table).where(table.c.run_id == run["id"])):
                    insert_missing(connection, table, rows)
            before = self._count(connection, run["id"])
            for rows in self._rows(sa.select(attempts).where(attempts.c.run_id == run["id"])):
                insert_missing(connection, attempts, rows)
            self.new_attempts += self._count(connection, run["id"]) - before
            there = set(
                connection.execute(sa.select(attempts.c.id).where(attempts.c.run_id == run["id"])).scalars()
            )
            for table in _ATTEMPT_TABLES:
                for rows in self._of_attempts(table, run["id"]):
                    insert_missing(connection, table, [row for row in rows if row["attempt_id"] in there])
            for rows in self._of_attempts(tables.samples, run["id"]):
                _store_longer_series(connection, [row for row in rows if row["attempt_id"] in there])
            daily.mark_run_stale(connection, run["id"])

    def _run_row(self, connection: sa.Connection, run: Row) -> None:
        table = tables.runs
        theirs = {**run, "origin": self._origin(run["origin"]) or None}
        stored = connection.execute(sa.select(table).where(table.c.id == run["id"])).mappings().first()
        if stored is None:
            connection.execute(table.insert(), theirs)
            self.new_runs += 1
            return
        change = {} if _rank(theirs) <= _rank(stored) else theirs
        kept = max(theirs["samples_kept"], stored["samples_kept"], key=_SAMPLES.index)
        change = {**change, "samples_kept": kept, "origin": _common_origin(theirs["origin"], stored["origin"])}
        connection.execute(table.update().where(table.c.id == run["id"]).values(**change))

    def days(self) -> None:
        """Copy the sums of days, also of days whose attempts are deleted, and the list of stale days."""
        table = tables.daily_usage
        stale = self._reader.execute(sa.select(tables.stale_days.c.day)).scalars()
        with write_connection(self._target) as connection, connection.begin():
            daily.mark_stale(connection, map(date.fromisoformat, stale))
        for day in self._reader.execute(sa.select(table.c.day).distinct().order_by(table.c.day)).scalars().all():
            found = self._reader.execute(sa.select(table).where(table.c.day == day)).mappings()
            rows = [{**row, "origin": self._origin(row["origin"])} for row in found]
            with write_connection(self._target) as connection, connection.begin():
                daily.store_most_complete(connection, day, rows)

    def _origin(self, origin: str | None) -> str:
        """Return an origin from the view of the target database: empty for rows that it recorded itself."""
        seen = origin or self._from
        return "" if seen == self._into else seen

    def _rows(self, query: sa.Select[Any]) -> Iterator[list[Row]]:
        for rows in self._reader.execute(query).mappings().partitions(ROWS_AT_ONCE):
            yield [dict(row) for row in rows]

    def _of_attempts(self, table: sa.Table, run_id: str) -> Iterator[list[Row]]:
        of_run = tables.attempts.c.run_id == run_id
        return self._rows(sa.select(table).join(tables.attempts).where(of_run))

    @staticmethod
    def _count(connection: sa.Connection, run_id: str) -> int:
        number = sa.select(sa.func.count()).where(tables.attempts.c.run_id == run_id)
        return int(connection.execute(number).scalar_one())


def _number_of_attempts() -> sa.ScalarSelect[int]:
    of_run = tables.attempts.c.run_id == tables.runs.c.id
    return sa.select(sa.func.count()).select_from(tables.attempts).where(of_run).scalar_subquery()


def _rank(run: Any) -> tuple[int, str]:
    """Return the sort key that chooses between two copies of a run: the more advanced status (running,
    interrupted, finished), then the content.
    """
    return _STATUSES.index(run["status"]), repr(
        [run[c.name] for c in tables.runs.c if c.name not in _LOCAL_COLUMNS]
    )


def _common_origin(theirs: str | None, stored: str | None) -> str | None:
    """Return the origin of a run that two databases claim: None if either recorded it in the target, otherwise the
    smaller id.
    """
    return None if theirs is None or stored is None else min(theirs, stored)


def _store_longer_series(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Store time series, and keep the one with more points where one is stored already."""
    table = tables.samples
    lengths: dict[str, int] = defaultdict(int)
    keys = [row["attempt_id"] for row in rows]
    for some in in_chunks(keys):
        query = sa.select(table.c.attempt_id, table.c.samples_count).where(table.c.attempt_id.in_(some))
        lengths.update({row.attempt_id: row.samples_count for row in connection.execute(query)})
    longer = [row for row in rows if row["samples_count"] > lengths[row["attempt_id"]]]
    short = [row["attempt_id"] for row in longer if lengths[row["attempt_id"]]]
    for some in in_chunks(short):
        connection.execute(table.delete().where(table.c.attempt_id.in_(some)))
    insert_missing(connection, table, longer)

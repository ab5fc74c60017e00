"""The resource database as the coordinator uses it: begin a run, record results, finish the run, read history,
prune.

One thread writes at a time. `record` commits a result by itself; `record_soon` commits passes together, because
passing tests may end faster than the disk commits. A result that the database cannot take is spooled; `finish_run`
reports that, and the next open imports it.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from orchestrator.database.files.connect import database_error, is_corrupt, read_connection, write_connection
from orchestrator.database.files.open import OpenedDatabase, open_database
from orchestrator.database.files.prepare import mark_suspect
from orchestrator.database.rows import bundles, projects
from orchestrator.database.rows.encoding import key_of_test
from orchestrator.database.rows.mapping import keys_of_tests
from orchestrator.database.rows.raw_rows import fetch_sql
from orchestrator.database.schema.tables import runs
from orchestrator.database.store import maintenance, writer
from orchestrator.database.store.batch_timer import BatchTimer
from orchestrator.database.store.history import read_history
from orchestrator.database.store.spool import Spool, import_spools
from orchestrator.errors import DatabaseError
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from orchestrator.database.rows.bundles import Bundle
    from orchestrator.database.store.maintenance import RecordsRetention
    from orchestrator.model.results import TestResult
    from orchestrator.model.runs import Ledger, Run, RunStatus
    from orchestrator.model.tests import Assignment, History, TestId

DAYS_AT_ONCE = 7
"""The largest number of days that the end of a run sums up. After an upgrade hundreds may be stale."""
BATCH_RESULTS = 50
BATCH_SECONDS = 0.5
"""`record_soon` keeps at most BATCH_RESULTS results, and none for longer than BATCH_SECONDS."""


class Database:
    """An open resource database. Several threads may use it; one of them writes at a time."""

    def __init__(self, opened: OpenedDatabase, spool_folders: Sequence[Path]) -> None:
        self.project: str | None = None
        """The id of the project to which queries are limited, or None for all projects."""
        self._opened = opened
        self._spool_folders = tuple(spool_folders)
        self._spools: dict[str, Spool] = {}
        self._failures: dict[str, DatabaseError] = {}
        self._projects: dict[str, str] = {}
        self._begun: dict[str, Bundle] = {}
        self._stored_keys: set[str] = set()
        self._lock = threading.RLock()  # reentrant: reading stores the waiting results
        self._waiting: list[Bundle] = []
        self._batches = BatchTimer(self._flush, BATCH_SECONDS)

    @classmethod
    def open(
        cls,
        url: str | None,
        *,
        state_dir: Path,
        owner_alive: Callable[[str], bool] | None = None,
        spool_fallback: Sequence[Path] = (),
        reading: bool = False,
    ) -> Database:
        """Open the database and create or upgrade it if necessary. Import spooled results, and mark runs whose
        process has died as interrupted.

        `url`: a SQLAlchemy URL of SQLite or PostgreSQL, or None for `resources.db` in `state_dir`. `owner_alive`:
        tells whether the process with this token still runs. `spool_fallback`: folders for spooled results if the
        state folder has no room; a folder that other users can write is not used. `reading`: nothing will be
        recorded, see `files.open.open_database`.

        `notices` is complete afterwards. Raises DatabaseError, and UsageError for an invalid URL.
        """
        opened = open_database(url, state_dir=state_dir, reading=reading)
        folders = [state_dir / "spool", *spool_fallback]
        database = cls(opened, folders)
        if not opened.writable:
            return database
        try:
            opened.notices += import_spools(opened.engine, folders)
            if owner_alive is not None:
                database._interrupt_orphans(owner_alive)
        except BaseException as error:
            if reading and isinstance(error, SQLAlchemyError) and not is_corrupt(error):
                return database  # the database is read without these changes
            opened.close()
            if isinstance(error, SQLAlchemyError):
                raise database_error(error, "open", database.place) from error
            raise
        return database

    @property
    def notices(self) -> tuple[str, ...]:
        """Messages for the user about this open: files set aside, upgrades, imports, slow storage."""
        return tuple(self._opened.notices)

    @property
    def path(self) -> Path | None:
        """The database file, or None for a server."""
        return self._opened.path

    @property
    def place(self) -> str:
        """The path or URL of the database, without a password."""
        if self.path is not None:
            return str(self.path)
        return self._opened.engine.url.render_as_string(hide_password=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Store waiting results, and close files and connections. Spooled results stay for the next open."""
        try:
            self._batches.close()
        finally:
            for spool in self._spools.values():
                spool.close()
            self._opened.close()

    # ---------------------------------------------------------------- writing

    def begin_run(self, run: Run, planned: Sequence[Assignment], *, owner: str | None = None) -> None:
        """Store a run with status `running`, and its plan.

        `owner` is a token by which later opens find out whether the process of the run is alive. A run without an
        owner counts as dead.
        """
        self._projects[run.id] = run.project_id
        self._begun[run.id] = bundles.begin_bundle(run, planned, owner)
        self._store(self._begun[run.id])

    def record(self, run_id: str, result: TestResult) -> bool:
        """Store and commit a test's result. Return False, and change nothing, if the run has a result of this test
        and repetition already.
        """
        return self._store(bundles.result_bundle(run_id, self._project(run_id), result))

    def record_soon(self, run_id: str, result: TestResult) -> None:
        """Store a result like `record`, but commit passes together: after `BATCH_RESULTS` results or
        `BATCH_SECONDS`, whichever comes first. Any other result is committed at once together with the waiting
        ones, and so does every other call. Killing the process loses the waiting results only.
        """
        bundle = bundles.result_bundle(run_id, self._project(run_id), result)
        with self._lock:
            self._waiting.append(bundle)
            full = len(self._waiting) >= BATCH_RESULTS
        if full or result.outcome is not Outcome.PASSED:
            self._flush()
        else:
            self._batches.begin()

    def finish_run(
        self, run_id: str, *, status: RunStatus, exit_code: int, duration_seconds: float, ledger: Ledger
    ) -> None:
        """Store the end of a run. DatabaseError if some of its records could not be stored and were spooled."""
        bundle = bundles.finish_bundle(
            run_id, status=status, exit_code=exit_code, duration_seconds=duration_seconds, ledger=ledger
        )
        self._store(bundle)
        with self._lock:
            spool, failure = self._spools.pop(run_id, None), self._failures.pop(run_id, None)
        if spool is None or failure is None:
            with suppress(DatabaseError):  # all results are stored, and days can be summed up later
                self.sum_up(at_most=DAYS_AT_ONCE)
            return
        places, lost = ", ".join(map(str, spool.paths)), spool.waiting
        spool.close()
        if lost:
            message = f"{failure.message}; {lost} records had no room anywhere and are lost"
            raise DatabaseError(message, remedy=failure.remedy) from failure
        remedy = f"{failure.remedy}; results are kept in {places} and imported by the next run"
        raise DatabaseError(failure.message, remedy=remedy) from failure

    def _store(self, bundle: Bundle) -> bool:
        with self._lock:
            self._write_waiting()
            return self._write(bundle)

    def _flush(self) -> None:
        with self._lock:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the waiting results in one transaction, or one by one if that fails."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self._write_batch(waiting):
            for bundle in waiting:
                self._write(bundle)

    def _write_batch(self, waiting: list[Bundle]) -> bool:
        if len(waiting) == 1 or any(bundle.run_id in self._spools for bundle in waiting):
            return False
        try:
            with write_connection(self._opened.engine) as connection, connection.begin() as transaction:
                if not writer.write_batch(connection, waiting, self._stored_keys):
                    transaction.rollback()
                    return False
        except IntegrityError:
            return False
        except DBAPIError as error:
            self._spool_run(waiting.pop(0), error)
            return False  # the other results are spooled too
        for bundle in waiting:
            self._stored_keys |= writer.keys_of(bundle)
        return True

    def _write(self, bundle: Bundle) -> bool:
        if bundle.run_id in self._spools:
            self._spools[bundle.run_id].add(bundle)
            return True
        try:
            with write_connection(self._opened.engine) as connection, connection.begin():
                stored = writer.write(connection, bundle, self._stored_keys)
        except IntegrityError as error:  # the run was never begun: an error of the caller, not of the disk
            raise database_error(error, "write", self.place) from error
        except DBAPIError as error:
            self._spool_run(bundle, error)
            return True
        self._stored_keys |= writer.keys_of(bundle)
        return stored

    def _spool_run(self, bundle: Bundle, error: DBAPIError) -> None:
        """Spool all further records of this run, so that they are imported in order and completely."""
        self._failures[bundle.run_id] = database_error(error, "write", self.place)
        if self.path is not None and is_corrupt(error):
            mark_suspect(self.path)
        spool = self._spools[bundle.run_id] = Spool(bundle.run_id, self._spool_folders)
        if bundle.kind != "begin" and bundle.run_id in self._begun:
            spool.add(self._begun[bundle.run_id])  # the import may meet a new database without the run
        spool.add(bundle)

    def _project(self, run_id: str) -> str:
        if run_id not in self._projects:
            with self.reading() as connection:
                found = connection.execute(sa.select(runs.c.project_id).where(runs.c.id == run_id)).scalar()
            if found is None:
                raise DatabaseError(f"run {run_id} was never begun", remedy="call begin_run first")
            self._projects[run_id] = found
        return self._projects[run_id]

    def _interrupt_orphans(self, owner_alive: Callable[[str], bool]) -> None:
        with self._opened.engine.connect() as connection, connection.begin():
            claimed = writer.running(connection)
        dead = [run_id for run_id, owner in claimed if owner is None or not owner_alive(owner)]
        if not dead:
            return
        with write_connection(self._opened.engine) as connection, connection.begin():
            for run_id in dead:
                writer.interrupt(connection, run_id)

    # ---------------------------------------------------------------- reading

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection that sees one consistent state. Errors become DatabaseError."""
        self._flush()
        try:
            with read_connection(self._opened.engine) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            if self.path is not None and self._opened.writable and is_corrupt(error):
                mark_suspect(self.path)
            raise database_error(error, "read", self.place) from error

    def scope(self, connection: sa.Connection) -> str | None:
        """Return the project to which queries are limited, see `projects.scope`."""
        return projects.scope(connection, self.project)

    def history(self, test_ids: Iterable[TestId], *, project: str | None = None) -> Mapping[TestId, History]:
        """Return the history of each test that passed at least once in the last 30 days. `project`: the id of the
        project whose tests they are, or None for the tests of these names in all projects.
        """
        with self.reading() as connection:
            if project is None:
                keys = keys_of_tests(connection, test_ids)
            else:
                keys = {test_id: [key_of_test(project, test_id)] for test_id in test_ids}
            return read_history(partial(fetch_sql, connection), keys)

    # ---------------------------------------------------------------- upkeep

    def prune(self, retention: RecordsRetention, *, thin_at_most: int | None = None) -> int:
        """Delete runs older than `records_days` (at least 7) with everything that belongs to them, and return
        their number.

        The sums of their days are kept for `rollups_days`. Time series are thinned and later deleted with age;
        `thin_at_most` limits the number of runs for each (None: all).
        """
        with self._upkeep("prune"):
            count = maintenance.prune(self._opened.engine, retention, thin_at_most=thin_at_most)
            self._stored_keys.clear()  # rows that are no longer used may be deleted
        return count

    def sum_up(self, *, at_most: int | None = None) -> int:
        """Sum up stale days that are over, at most `at_most` of the oldest (None: all). Return their number."""
        with self._upkeep("sum up days of"):
            return maintenance.sum_up(self._opened.engine, at_most=at_most)

    def vacuum(self) -> None:
        """Rewrite the database to free the space of deleted rows. SQLite needs as much free disk space
        meanwhile.
        """
        with self._upkeep("vacuum"):
            maintenance.vacuum(self._opened.engine)

    @contextmanager
    def writing(self) -> Iterator[sa.Engine]:
        """Yield the engine for maintenance by other modules (`merge`), while this process writes nothing else."""
        with self._upkeep("write"):
            yield self._opened.engine

    @contextmanager
    def _upkeep(self, doing: str) -> Iterator[None]:
        with self._lock:
            self._write_waiting()
            try:
                yield
            except (SQLAlchemyError, sqlite3.Error) as error:
                raise database_error(error, doing, self.place) from error

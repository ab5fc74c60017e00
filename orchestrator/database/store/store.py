"""The resource database as the coordinator uses it: begin a run, record results, finish, remember, prune.

There is one writer. `record` commits a result by itself, `record_soon` with others: passing tests may come
faster than commits do. When the database cannot take a result, it is spooled beside the database, `finish_run`
says so, and the next open imports it.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from orchestrator.database.files.connect import database_error, is_corrupt
from orchestrator.database.files.open import (
    OpenedDatabase,
    mark_suspect,
    open_database,
    read_connection,
    write_connection,
)
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
"""Days that the end of a run sums up at most: after an upgrade there may be hundreds."""
BATCH_RESULTS = 50
BATCH_SECONDS = 0.5
"""`record_soon` keeps at most so many results, and none for longer."""


class Database:
    """An open resource database. Safe to use from several threads; one of them writes at a time."""

    def __init__(self, opened: OpenedDatabase, spool_folders: Sequence[Path]) -> None:
        self.project: str | None = None
        """Id of the project that questions are about; None: any."""
        self._opened = opened
        self._spool_folders = tuple(spool_folders)
        self._spools: dict[str, Spool] = {}
        self._failures: dict[str, DatabaseError] = {}
        self._projects: dict[str, str] = {}
        self._begun: dict[str, Bundle] = {}
        self._known: set[str] = set()
        self._lock = threading.RLock()  # who holds it to write may read, which stores what waits
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
        """Open, and make or migrate if need be; import what was spooled; mark runs whose owner is dead.

        `url`: None for `resources.db` in `state_dir`, else any SQLAlchemy URL of SQLite or PostgreSQL.
        `spool_fallback`: where results are spooled if the state folder has no room either; each is used if it is,
        or can be, this user's alone. `reading`: nothing will
        be recorded, see `opening.open_database`.
        Read `notices` afterwards. Raises DatabaseError, and UsageError for a URL that cannot be.
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
                return database  # what could not be brought up to date is read as it is
            opened.close()
            if isinstance(error, SQLAlchemyError):
                raise database_error(error, "open", database.place) from error
            raise
        return database

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of this open: files set aside, migrations, imports, slow storage."""
        return tuple(self._opened.notices)

    @property
    def path(self) -> Path | None:
        """The database file; None for a server."""
        return self._opened.path

    @property
    def place(self) -> str:
        """Where the database is, without a password."""
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
        """Store what waits, close files and connections; what is spooled stays for the next open."""
        try:
            self._batches.close()
        finally:
            for spool in self._spools.values():
                spool.close()
            self._opened.close()

    # ---------------------------------------------------------------- writing

    def begin_run(self, run: Run, planned: Sequence[Assignment], *, owner: str | None = None) -> None:
        """Store a run as `running`, with its plan.

        `owner` tells later opens whether it is still alive; one without an owner counts as dead.
        """
        self._projects[run.id] = run.project_id
        self._begun[run.id] = bundles.begin_bundle(run, planned, owner)
        self._store(self._begun[run.id])

    def record(self, run_id: str, result: TestResult) -> bool:
        """Store a test's result and commit; False, and nothing changes, if this run has one already."""
        return self._store(bundles.result_bundle(run_id, self._project(run_id), result))

    def record_soon(self, run_id: str, result: TestResult) -> None:
        """Store a result as `record` does, committed with others: a pass after `BATCH_RESULTS` results or
        `BATCH_SECONDS`, whichever is first, anything else, and what waits with it, at once. A kill -9 in between
        loses what waits, and nothing else; every other call stores it first.
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
        """Store a run's end. DatabaseError if anything of the run could not be stored and was spooled."""
        bundle = bundles.finish_bundle(
            run_id, status=status, exit_code=exit_code, duration_seconds=duration_seconds, ledger=ledger
        )
        self._store(bundle)
        with self._lock:
            spool, failure = self._spools.pop(run_id, None), self._failures.pop(run_id, None)
        if spool is None or failure is None:
            with suppress(DatabaseError):  # all results are stored: what could not be summed up waits
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
        """In one transaction; where that is not possible, one by one."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self._write_together(waiting):
            for bundle in waiting:
                self._write(bundle)

    def _write_together(self, waiting: list[Bundle]) -> bool:
        if len(waiting) == 1 or any(bundle.run_id in self._spools for bundle in waiting):
            return False
        try:
            with write_connection(self._opened.engine) as connection, connection.begin() as transaction:
                if not writer.write_together(connection, waiting, self._known):
                    transaction.rollback()
                    return False
        except IntegrityError:
            return False
        except DBAPIError as error:
            self._give_up(waiting.pop(0), error)
            return False  # the others follow the first one into the spool
        for bundle in waiting:
            self._known |= writer.keys_of(bundle)
        return True

    def _write(self, bundle: Bundle) -> bool:
        if bundle.run_id in self._spools:
            self._spools[bundle.run_id].add(bundle)
            return True
        try:
            with write_connection(self._opened.engine) as connection, connection.begin():
                stored = writer.write(connection, bundle, self._known)
        except IntegrityError as error:  # a run that was never begun: a mistake of the caller, not of the disk
            raise database_error(error, "write", self.place) from error
        except DBAPIError as error:
            self._give_up(bundle, error)
            return True
        self._known |= writer.keys_of(bundle)
        return stored

    def _give_up(self, bundle: Bundle, error: DBAPIError) -> None:
        """From here on this run is spooled, so that nothing is stored out of order or half."""
        self._failures[bundle.run_id] = database_error(error, "write", self.place)
        if self.path is not None and is_corrupt(error):
            mark_suspect(self.path)
        spool = self._spools[bundle.run_id] = Spool(bundle.run_id, self._spool_folders)
        if bundle.kind != "begin" and bundle.run_id in self._begun:
            spool.add(self._begun[bundle.run_id])  # the next database may be a new one
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
        """A connection that sees one consistent state; its errors become DatabaseError."""
        self._flush()
        try:
            with read_connection(self._opened.engine) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            if self.path is not None and self._opened.writable and is_corrupt(error):
                mark_suspect(self.path)
            raise database_error(error, "read", self.place) from error

    def scope(self, connection: sa.Connection) -> str | None:
        """The project by which rows are to be filtered: see `projects.scope`."""
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
        """Delete runs older than `records_days` (never under 7) and all of theirs; returns how many.

        Their days stay summed up for `rollups_days`. Time series are thinned, then deleted, with age:
        those of `thin_at_most` runs by one call (None: of all).
        """
        with self._upkeep("prune"):
            count = maintenance.prune(self._opened.engine, retention, thin_at_most=thin_at_most)
            self._known.clear()  # unused ones may be gone
        return count

    def sum_up(self, *, at_most: int | None = None) -> int:
        """Sum up days that are over, the oldest `at_most` of them (None: all); returns how many."""
        with self._upkeep("sum up days of"):
            return maintenance.sum_up(self._opened.engine, at_most=at_most)

    def vacuum(self) -> None:
        """Rewrite the database without the room of what was deleted; SQLite needs as much free disk meanwhile."""
        with self._upkeep("vacuum"):
            maintenance.vacuum(self._opened.engine)

    @contextmanager
    def writing(self) -> Iterator[sa.Engine]:
        """The engine for upkeep of other modules (`merging`), while nothing else of this process writes."""
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

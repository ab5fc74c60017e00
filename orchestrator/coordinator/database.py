"""Open the resource database of the project for a command.

SQLAlchemy takes 0.2 s to import, so it is imported only when a database is opened.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note
from orchestrator.coordinator.project import found_id, keep_id, kept_id, scope_text
from orchestrator.coordinator.session import load_with_database
from orchestrator.database.files.sqlite_file import database_file
from orchestrator.database.rows.encoding import key_of_test
from orchestrator.database.store.direct_read import read_directly
from orchestrator.database.store.history import read_history, read_startup_seconds
from orchestrator.measure.processes import owner_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from orchestrator.config.settings import Config
    from orchestrator.database.store.store import Database
    from orchestrator.model.results import TestResult
    from orchestrator.model.tests import History, TestId


NO_PROJECT = ""
"""An id that no project has. It stands for a project that has not run yet and whose id cannot be derived."""


@contextmanager
def database_to_read(config_path: Path | None, database: str | None, *, scoped: bool = True) -> Iterator[Database]:
    """Open the resource database of the project for reading.

    With `scoped`, the command shows this project only, and a notice names other projects in the database.
    """
    with open_read_only(load_with_database(config_path, database)) as db:
        if scoped:
            print_scope(db)
        yield db


def open_database(config: Config) -> Database:
    """Open the resource database for writing. Create or upgrade it if needed; set an unusable file aside."""
    from orchestrator.database.files.open import fallback_spool_folders
    from orchestrator.database.store.store import Database

    database = Database.open(
        config.database_url,
        state_dir=config.state_dir,
        owner_alive=owner_alive,
        spool_fallback=fallback_spool_folders(config.database_url, state_dir=config.state_dir),
    )
    return _for_project(config, database)


def keep_project(config: Config) -> str:
    """Return the id of the project, and write it to the state folder if it is not there yet."""
    kept = kept_id(config.state_dir)
    if kept is not None:
        return kept
    with open_read_only(config) as db:
        found = db.project
    return keep_id(config, found or None)


def print_scope(db: Database) -> None:
    """Print which project is shown if the database has other projects too."""
    from orchestrator.database.queries.projects import known_projects

    text = scope_text(known_projects(db), db.project)
    if text is not None:
        note(text)


def open_read_only(config: Config) -> Database:
    """Open the resource database for reading. Raises DatabaseError if it cannot be read; creates none."""
    from orchestrator.database.store.store import Database

    return _for_project(
        config,
        Database.open(config.database_url, state_dir=config.state_dir, owner_alive=owner_alive, reading=True),
    )


def _for_project(config: Config, db: Database) -> Database:
    """Return the database, set to the project of this configuration. Close it if that fails."""
    from orchestrator.database.queries.projects import known_projects

    try:
        db.project = kept_id(config.state_dir) or found_id(config, known_projects(db)) or NO_PROJECT
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def database_to_write(config_path: Path | None, database: str | None) -> Iterator[Database]:
    """Open the resource database of the project for writing, and print its notices."""
    with open_database(load_with_database(config_path, database)) as db:
        for text in db.notices:
            note(text)
        yield db


@contextmanager
def database_for_report(config: Config, *, scoped: bool = True) -> Iterator[Database]:
    """Open the resource database for a report, and disable Python's cycle collector meanwhile.

    A report reads up to a hundred thousand rows and keeps them until its end. With the collector enabled, even
    with its raised thresholds (`orchestrator.cli.program`), the page of a week took 7 % longer. `scoped` as in
    `database_to_read`.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with open_read_only(config) as db:
            if scoped:
                print_scope(db)
            yield db
    finally:
        if collects:
            gc.enable()


class LazyDatabase:
    """The resource database of a run, which a background thread opens while the first container starts.

    Before that, `read_directly` answers questions about earlier runs if the file allows it. Used by one thread.
    """

    def __init__(self, config: Config, notices: Callable[[Iterable[str]], None], *, reading: bool = False) -> None:
        """Prepare to open the database of the configuration; nothing is opened yet.

        `notices` is called with the notices of the open database, in the thread that first calls `get`. With
        `reading`, the database is opened for reading only.
        """
        self._config = config
        self._open_it = open_read_only if reading else open_database
        self._notices = notices
        self._database: Database | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._notices_shown = False
        self._project: str | None = None
        self._file = database_file(config.state_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._database is not None:
            self._database.close()

    def keep_project(self) -> str:
        """Return the id of the project, and write it to the state folder if it is not there yet."""
        if self._project is None:
            self._project = keep_id(self._config, self._known_project() or None)
        return self._project

    def _known_project(self) -> str:
        """Return the id of the project, or `NO_PROJECT`. Opens the database only if the state folder has no id."""
        kept = kept_id(self._config.state_dir)
        if kept is None and self._config.database_url is None and not self._file.exists():
            return found_id(self._config, ()) or NO_PROJECT
        return kept or self.get().project or NO_PROJECT

    def history(self, test_ids: Iterable[TestId]) -> Mapping[TestId, History]:
        """Return the history of these tests of the project, as `Database.history` does."""
        tests, project = tuple(test_ids), self._known_project()
        if self._may_read_directly:
            keys = {test: [key_of_test(project, test)] for test in tests}
            none: Mapping[TestId, History] = {}
            known = read_directly(self._file, lambda fetch: read_history(fetch, keys), absent=none)
            if known is not None:
                return known
        return self.get().history(tests, project=project)

    def startup_seconds(self) -> tuple[float, int] | None:
        """Return the start-up time of a container in seconds and the number of runs it is from, or None."""
        if self._may_read_directly:
            none: tuple[tuple[float, int] | None] = (None,)
            known = read_directly(self._file, lambda fetch: (read_startup_seconds(fetch),), absent=none)
            if known is not None:
                return known[0]
        from orchestrator.database.queries.startup import startup_seconds

        return startup_seconds(self.get())

    @property
    def _may_read_directly(self) -> bool:
        return self._thread is None and self._database is None and self._config.database_url is None

    def failed(self, run_id: str) -> tuple[TestId, ...]:
        """Return the tests of an earlier run that did not pass, or were planned and not run."""
        from orchestrator.database.queries.runs import failed_tests

        return tuple(failed_tests(self.get(), run_id))

    def open_in_background(self, first: Callable[[Database], None] = lambda _: None) -> None:
        """Open the database in a background thread, then call `first` with it there. Later calls do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._open, args=(first,), name="orch-database-opener")
            self._thread.start()

    def _open(self, first: Callable[[Database], None]) -> None:
        try:
            if self._database is None:
                self._database = self._open_it(self._config)
            first(self._database)
        except BaseException as error:  # noqa: BLE001 - `get` raises it
            self._error = error

    def get(self) -> Database:
        """Return the open database once the background thread has ended. Raises an error of that thread."""
        if self._thread is None and self._database is None:
            self._database = self._open_it(self._config)
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._database is not None  # noqa: S101 - tells the type checker
        if not self._notices_shown:
            self._notices_shown = True
            self._notices(self._database.notices)
        return self._database

    def record_soon(self, run_id: str, result: TestResult) -> None:
        """Record the result of a test in the next batch, as `Database.record_soon` does."""
        self.get().record_soon(run_id, result)

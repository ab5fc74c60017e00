"""Write the events and results of a run to the database, to files and to the display.

Several at a time where several have come, and each kind of work for all of them in turn: it then finds its code
and data in the processor's caches. One test after another took half as much again
(docs/design/coordinator/cost.md).
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from orchestrator.coordinator.exit_code import exit_code_of_error
from orchestrator.errors import DatabaseError, OrchError
from orchestrator.model.results import TestResult
from orchestrator.model.runs import Ledger, RunStatus
from orchestrator.reports.run_summary import ResultTotals, RunSummary
from orchestrator.scheduling.events import Event, QueueDrained, Started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.config.settings import Retention
    from orchestrator.coordinator.database import LazyDatabase
    from orchestrator.coordinator.output.progress import RunProgress
    from orchestrator.coordinator.run_folder import RunFolder
    from orchestrator.database.store.store import Database

MOST_WAITING = 64
"""The largest number of events and results that are queued before they are written."""


class ResultRecorder:
    """Record the events and results of one run. Used by the thread of the scheduler, which calls `flush` last."""

    def __init__(
        self, run_id: str, *, database: Database | LazyDatabase, folder: RunFolder, progress: RunProgress
    ) -> None:
        self._run_id = run_id
        self._database, self._folder, self._progress = database, folder, progress
        self._waiting: list[Event | TestResult] = []
        self.totals = ResultTotals()
        """The totals of the results, for the summary. The results themselves are not kept."""

    def event(self, event: Event) -> None:
        """Queue an event of the schedule; write all that is queued when the schedule has nothing more for now."""
        if isinstance(event, QueueDrained):
            self.flush()
            return
        if isinstance(event, Started):
            self._progress.started(event.assignment)
        self._waiting.append(event)

    def result(self, result: TestResult) -> None:
        """Queue the final result of a test; write all that is queued once that is `MOST_WAITING` items."""
        self._waiting.append(result)
        if len(self._waiting) >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write the queued events and results to the database, the run's folder and the display."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        results = [item for item in waiting if isinstance(item, TestResult)]
        self.totals.add(results)  # first, because a write below may fail
        for result in results:
            if not result.final.absent:
                self._database.record_soon(self._run_id, result)
        for result in results:
            self._folder.link_by_status(result)
        self._folder.add_sizes(results)
        self._progress.log_events(waiting)
        self._progress.finished(results)


@contextmanager
def recorded_end(database: Database, summary: RunSummary, retention: Retention) -> Iterator[None]:
    """Record the end of a run, and after the body delete old records.

    A DatabaseError of either is raised at the end, so that the body can report on the run first.
    """
    errors: list[DatabaseError] = []
    try:
        database.finish_run(
            summary.run.id,
            status=summary.status,
            exit_code=summary.exit_code,
            duration_seconds=summary.duration_seconds,
            ledger=summary.ledger,
        )
    except DatabaseError as error:
        errors.append(error)
    yield
    try:
        database.prune(retention, thin_at_most=10)
    except DatabaseError as error:
        errors.append(error)
    if errors:
        raise errors[0]


@contextmanager
def mark_interrupted_on_error(run_id: str, database: Callable[[], Database]) -> Iterator[None]:
    """Record the run as interrupted if the body raises an error, such as a closed pipe or a full disk."""
    began = time.monotonic()
    try:
        yield
    except BaseException as error:
        with suppress(OrchError):  # the first error is the one to report
            database().finish_run(
                run_id,
                status=RunStatus.INTERRUPTED,
                exit_code=exit_code_of_error(error),
                duration_seconds=time.monotonic() - began,
                ledger=Ledger(),
            )
        raise

"""What becomes of a run's events and results: rows, files, lines.

Several at a time where several have come, and each kind of work for all of them in turn: it then finds its code
and data in the processor's caches. One test after another took half as much again (docs/design/coordinator.md).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.engine.lanes import NO_OUTPUT
from orchestrator.model import Attestation, Outcome, OutputLog, TestResult
from orchestrator.scheduling.policy import Event, Idle, Started

if TYPE_CHECKING:
    from orchestrator.commands.folders import RunFolder
    from orchestrator.commands.opening import LateDatabase
    from orchestrator.commands.reporting import RunProgress
    from orchestrator.database.store import Database
    from orchestrator.model import Attempt

MOST_WAITING = 64
"""Events and results that are held back, should answers never stop coming."""


class Keeping:
    """Of one run, in the scheduler's thread. `flush` at the end, however it comes."""

    def __init__(
        self, run_id: str, *, database: Database | LateDatabase, folder: RunFolder, progress: RunProgress
    ) -> None:
        self._run_id = run_id
        self._database, self._folder, self._progress = database, folder, progress
        self._waiting: list[Event | TestResult] = []
        self.results: list[TestResult] = []
        """What is needed of each for the summary."""

    def event(self, event: Event) -> None:
        """An attempt starts or ends, or all has been said for now."""
        if isinstance(event, Idle):
            self.flush()
            return
        if isinstance(event, Started):
            self._progress.started(event.assignment)
        self._waiting.append(event)

    def take(self, result: TestResult) -> None:
        """A test has its final result."""
        self._waiting.append(result)
        if len(self._waiting) >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Record, file and tell what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        results = [item for item in waiting if isinstance(item, TestResult)]
        self.results += [slim(result) for result in results]  # first: an error must leave what came before it
        for result in results:
            self._database.record_soon(self._run_id, result)
        for result in results:
            self._folder.file_by_status(result)
        self._progress.told(waiting)
        self._progress.finished(results)


def slim(result: TestResult) -> TestResult:
    """The result without what is on the disk already: a test takes as much memory as it has figures."""
    tail = result.outcome is not Outcome.PASSED
    return TestResult(
        attempts=tuple([_slim_attempt(a, keep_tail=tail) for a in result.attempts]),
        outcome=result.outcome,
        verb=result.verb,
        flaky=result.flaky,
    )


def _slim_attempt(attempt: Attempt, *, keep_tail: bool) -> Attempt:
    evidence = attempt.evidence
    return replace(
        attempt,
        evidence=replace(
            evidence,
            samples=(),
            stdout=_slim_log(evidence.stdout, keep_tail=keep_tail),
            stderr=_slim_log(evidence.stderr, keep_tail=keep_tail),
            attestation=_shared(evidence.attestation),
        ),
    )


@lru_cache(maxsize=256)
def _shared(value: Attestation | None) -> Attestation | None:
    """The first of equal values: the tests of a slot have one attestation."""
    return value


def _slim_log(log: OutputLog, *, keep_tail: bool) -> OutputLog:
    return replace(log, chunks=(), tail=log.tail if keep_tail else b"") if log.total_bytes else NO_OUTPUT

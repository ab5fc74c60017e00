"""Find the run that decided each test of a window last, and the attempts of the test in that run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.database.queries.runs import load_run, run_rows
from orchestrator.database.rows.raw_rows import fetch_raw, in_chunks
from orchestrator.database.schema import tables
from orchestrator.database.schema.resource_columns import UNJUDGED
from orchestrator.model.tests import TestId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from orchestrator.database.store.store import Database
    from orchestrator.model.stored import AttemptRow, RunRecord, RunRow

    TestAttempts = tuple[tuple[AttemptRow, ...], AttemptRow]


def runs_within(db: Database, since: datetime | None, end: datetime) -> tuple[RunRow, ...]:
    """Return the project's runs that began within [since, end), newest first."""
    runs = tables.runs
    query = sa.select(runs.c.id).where(runs.c.started_at < end).order_by(runs.c.started_at.desc())
    if since is not None:
        query = query.where(runs.c.started_at >= since)
    with db.reading() as connection:
        project = db.scope(connection)
        if project is not None:
            query = query.where(runs.c.project_id == project)
        ids = connection.execute(query).scalars().all()
        return tuple(run for part in in_chunks(ids) for run in run_rows(connection, part))


def final_attempts_in(
    db: Database, runs: Iterable[RunRow], wanted: AbstractSet[TestId]
) -> tuple[dict[TestId, TestAttempts], dict[str, RunRecord]]:
    """Return, for each test, its attempts in the newest run that judged it, and the last final one of them. For a
    test that no run judged, the newest run with the test counts. Also return the runs that were loaded. Runs are
    read until all tests in `wanted` are found.
    """
    found: dict[TestId, TestAttempts] = {}
    unjudged: dict[TestId, TestAttempts] = {}
    loaded: dict[str, RunRecord] = {}
    for run in runs:
        if found and _tests_of(db, run.id) <= found.keys():
            continue  # newer runs have all its tests: loading a run of 500 tests takes 0.1 s
        record = loaded[run.id] = load_run(db, run.id)
        for test, attempts in _by_test(record).items():
            finals = [a for a in attempts if a.final]
            judged = [a for a in finals if a.outcome not in UNJUDGED]
            if judged:
                found.setdefault(test, (attempts, judged[-1]))
            elif finals:
                unjudged.setdefault(test, (attempts, finals[-1]))
        if wanted <= found.keys():
            break
    return {**unjudged, **found}, loaded


def _tests_of(db: Database, run_id: str) -> AbstractSet[TestId]:
    """Return the tests of which the run has results."""
    tests, attempts = tables.tests, tables.attempts
    query = sa.select(tests.c.path, tests.c.case_name).join(attempts, attempts.c.test_id == tests.c.id)
    with db.reading() as connection:
        rows = fetch_raw(connection, query.where(attempts.c.run_id == run_id, attempts.c.is_final).distinct())
    return {TestId(path=path, case=case) for path, case in rows}


def _by_test(record: RunRecord) -> Mapping[TestId, tuple[AttemptRow, ...]]:
    by_test: dict[TestId, list[AttemptRow]] = defaultdict(list)
    for attempt in record.attempts:
        by_test[attempt.test_id].append(attempt)
    return {test: tuple(attempts) for test, attempts in by_test.items()}

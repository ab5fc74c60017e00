"""Past attempts one by one, as right-sizing and the gates of `orch check` judge them. Raw rows, so only as far
back as records are kept; sums of days have no single attempts in them.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.loading import run_rows
from orchestrator.database.schema import attempts, runs, tests
from orchestrator.model import Outcome, TestId
from orchestrator.model_reports import Observed, RunFigures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from orchestrator.database.store import Database
    from orchestrator.model_reports import RunRow

_SAME_NAME = (
    "run_id",
    "cpu_seconds",
    "memory_peak_bytes",
    "file_peak_bytes",
    "pids_peak",
    "pids_limit_hits",
    "oom_kills",
    "throttled_seconds",
    "limit_cpus",
    "limit_memory_bytes",
    "limit_timeout_seconds",
)
_AT_ONCE = 500
"""SQLite bounds the number of parameters."""


def observed(
    db: Database, *, project: str, since: datetime | None, at_most: int = 500
) -> Mapping[TestId, tuple[Observed, ...]]:
    """Each test's newest attempts, at most so many, newest first; tests without one are not in the answer."""
    query = (
        sa.select(attempts.c.outcome, attempts.c.test_seconds, *(attempts.c[name] for name in _SAME_NAME))
        .where(attempts.c.test_id == sa.bindparam("test_id"))
        .order_by(attempts.c.started_at.desc())
        .limit(at_most)
    )
    if since is not None:
        query = query.where(attempts.c.started_at >= since)
    named = sa.select(tests.c.id, tests.c.path, tests.c.case_name).where(tests.c.project == project)
    found: dict[TestId, tuple[Observed, ...]] = {}
    with db.reading() as connection:
        for key, path, case in connection.execute(named).all():
            rows = connection.execute(query, {"test_id": key}).all()
            if rows:
                found[TestId(path=path, case=case)] = tuple(map(_observed, rows))
    return found


def _observed(row: Any) -> Observed:
    same = {name: getattr(row, name) for name in _SAME_NAME}
    return Observed(outcome=Outcome(row.outcome), duration_seconds=row.test_seconds, **same)


def runs_up_to(
    db: Database, newest: RunRow, *, branch: str | None, revision: str | None = None, limit: int
) -> tuple[RunRow, ...]:
    """Runs of the same project that have ended, newest first: `newest`, if it is of that branch, and those that
    began before it. `branch` None: runs outside any branch; `revision` None: any.
    """
    query = (
        sa.select(runs.c.id)
        .where(runs.c.project == newest.project, runs.c.branch.is_not_distinct_from(branch))
        .where(runs.c.started_at <= newest.started_at, runs.c.status != "running")
        .order_by(runs.c.started_at.desc())
        .limit(limit)
    )
    if revision is not None:
        query = query.where(runs.c.revision == revision)
    with db.reading() as connection:
        return run_rows(connection, connection.execute(query).scalars().all())


def has_branch(db: Database, project: str, branch: str) -> bool:
    """Whether any run of the project was of that branch."""
    query = sa.select(runs.c.id).where(runs.c.project == project, runs.c.branch == branch).limit(1)
    with db.reading() as connection:
        return connection.execute(query).first() is not None


def figures_of_runs(db: Database, run_ids: Sequence[str]) -> Mapping[TestId, tuple[RunFigures, ...]]:
    """What each test used in each of these runs where it passed, in the runs' order."""
    query = (
        sa.select(
            attempts.c.run_id,
            tests.c.path,
            tests.c.case_name,
            attempts.c.memory_peak_bytes,
            attempts.c.test_seconds,
            attempts.c.cpu_seconds,
        )
        .join(tests, tests.c.id == attempts.c.test_id)
        .where(attempts.c.is_final, attempts.c.outcome == Outcome.PASSED.value)
    )
    found: dict[TestId, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    with db.reading() as connection:
        for start in range(0, len(run_ids), _AT_ONCE):
            here = query.where(attempts.c.run_id.in_(run_ids[start : start + _AT_ONCE]))
            for row in connection.execute(here):
                found[TestId(path=row.path, case=row.case_name)][row.run_id].append(row)
    return {
        test: tuple(_figures(run_id, by_run[run_id]) for run_id in run_ids if run_id in by_run)
        for test, by_run in found.items()
    }


def _figures(run_id: str, rows: Sequence[Any]) -> RunFigures:
    return RunFigures(
        run_id=run_id,
        memory_peak_bytes=_median(row.memory_peak_bytes for row in rows),
        duration_seconds=median(row.test_seconds for row in rows),
        cpu_seconds=_median(row.cpu_seconds for row in rows),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None

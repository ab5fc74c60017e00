"""Broken budgets of one run, or of all runs within a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database import rows, schema
from orchestrator.database.coverage import EXACT_DAYS
from orchestrator.database.loading import find_run
from orchestrator.model import Outcome
from orchestrator.model_reports import BrokenBudget

if TYPE_CHECKING:
    from orchestrator.database.store import Database


def broken_budgets(
    db: Database, *, run: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> tuple[BrokenBudget, ...]:
    """Violations of deciding attempts, oldest first; `run` is named as for `load_run`."""
    attempts, tests, violations = schema.attempts, schema.tests, schema.violations
    started_at = _started_at(db, since, until)
    query = (
        sa.select(
            violations,
            attempts.c.run_id,
            attempts.c.profile,
            attempts.c.outcome,
            attempts.c.started_at,
            tests.c.path,
            tests.c.case_name,
        )
        .join(attempts, attempts.c.id == violations.c.attempt_id)
        .join(tests, tests.c.id == attempts.c.test_id)
        .where(attempts.c.is_final)
        .order_by(started_at, violations.c.attempt_id, violations.c.position)
    )
    if run is not None:
        query = query.where(attempts.c.run_id == find_run(db, run).id)
    if since is not None:
        query = query.where(started_at >= since)
    if until is not None:
        query = query.where(started_at < until)
    with db.reading() as connection:
        return tuple(
            BrokenBudget(
                run_id=row["run_id"],
                attempt_id=row["attempt_id"],
                test_id=rows.test_id(row),
                profile=row["profile"],
                outcome=Outcome(row["outcome"]),
                started_at=row["started_at"],
                violation=rows.violation(row),
            )
            for row in connection.execute(query).mappings()
        )


def _started_at(db: Database, since: datetime | None, until: datetime | None) -> sa.ColumnElement[Any]:
    """When attempts began. Over a long window it is better to begin with the violations, which are far fewer than
    the attempts: SQLite does so where no index on the time can be used, and a + before a column prevents that
    (https://www.sqlite.org/optoverview.html#disqualifying_where_clause_terms_using_unary_).
    """
    column = schema.attempts.c.started_at
    short = since is not None and (until or datetime.now(tz=UTC)) - since <= timedelta(days=EXACT_DAYS)
    if short or db.path is None:
        return column
    return sa.literal_column("+attempts.started_at", type_=column.type)

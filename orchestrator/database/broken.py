"""Broken budgets of one run, or of all runs within a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.database import rows, schema
from orchestrator.database.loading import find_run
from orchestrator.model import Outcome
from orchestrator.model_reports import BrokenBudget

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.database.store import Database


def broken_budgets(
    db: Database, *, run: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> tuple[BrokenBudget, ...]:
    """Violations of deciding attempts, oldest first; `run` is named as for `load_run`."""
    attempts, tests, violations = schema.attempts, schema.tests, schema.violations
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
        .order_by(attempts.c.started_at, violations.c.attempt_id, violations.c.position)
    )
    if run is not None:
        query = query.where(attempts.c.run_id == find_run(db, run).id)
    if since is not None:
        query = query.where(attempts.c.started_at >= since)
    if until is not None:
        query = query.where(attempts.c.started_at < until)
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

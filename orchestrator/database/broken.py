"""Broken budgets of one run, or of all runs within a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.database.coverage import EXACT_DAYS
from orchestrator.database.loading import find_run
from orchestrator.database.plain import moment_of, plain_rows
from orchestrator.model import Outcome, Severity, TestId, Violation, ViolationKind
from orchestrator.model_reports import BrokenBudget

if TYPE_CHECKING:
    from orchestrator.database.store import Database

_COLUMNS = ("attempt_id", "kind", "severity", "measured", "limit_value", "unit", "message")
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_KINDS = {kind.value: kind for kind in ViolationKind}
_SEVERITIES = {severity.value: severity for severity in Severity}


def broken_budgets(
    db: Database, *, run: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> tuple[BrokenBudget, ...]:
    """Violations of deciding attempts, oldest first; `run` is named as for `load_run`."""
    attempts, tests, violations = schema.attempts, schema.tests, schema.violations
    started_at = _started_at(db, since, until)
    query = (
        sa.select(
            *(violations.c[name] for name in _COLUMNS),
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
    known: dict[tuple[str, str | None], TestId] = {}
    with db.reading() as connection:
        return tuple(_broken_budget(row, known) for row in plain_rows(connection, query))


def _broken_budget(row: tuple[Any, ...], known: dict[tuple[str, str | None], TestId]) -> BrokenBudget:
    attempt, kind, severity, measured, limit, unit, message, run, profile, outcome, started_at, path, case = row
    if (path, case) not in known:
        known[path, case] = TestId(path=path, case=case)
    return BrokenBudget(
        run_id=run,
        attempt_id=attempt,
        test_id=known[path, case],
        profile=profile,
        outcome=_OUTCOMES[outcome],
        started_at=moment_of(started_at),
        violation=Violation(
            kind=_KINDS[kind],
            severity=_SEVERITIES[severity],
            measured=measured,
            limit=limit,
            unit=unit,
            message=message,
        ),
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

"""The worst offenders across runs. Ranking reads little but the index of figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.resources import EXPRESSIONS, MEMORY_RATIO, window
from orchestrator.database.rows import test_id
from orchestrator.database.schema import attempts, tests
from orchestrator.database.usage import UsageReader
from orchestrator.model import Outcome
from orchestrator.model_reports import OffenderRow, Resource

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.database.store import Database


def offenders(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    by: str = Resource.MEMORY,
    limit: int = 10,
) -> tuple[OffenderRow, ...]:
    """The worst tests within [since, until) (None: unbounded), each by its one worst attempt, worst first.

    `by`: a value of `Resource`. A test that used nothing of a resource is no offender.
    """
    resource = Resource(by)
    figure = EXPRESSIONS[resource]
    worst = sa.func.max(figure).label("worst")
    ranking = (
        sa.select(attempts.c.test_id, worst, sa.func.count(figure).label("measured"))
        .where(window(since, until), figure > 0)
        .group_by(attempts.c.test_id)
        .order_by(worst.desc(), attempts.c.test_id)
        .limit(limit)
    )
    with db.reading() as connection:
        ranked = connection.execute(ranking).all()
        reader = UsageReader(connection, since=since, until=until, resources=(resource,))
        return tuple(
            _offender(
                _worst_attempt(connection, row.test_id, figure, window(since, until)),
                rank=rank,
                by=resource,
                ranked=row,
                reader=reader,
            )
            for rank, row in enumerate(ranked, start=1)
        )


def _worst_attempt(
    connection: sa.Connection,
    test_key: str,
    figure: sa.ColumnElement[Any],
    within: sa.ColumnElement[bool],
) -> sa.RowMapping:
    query = (
        sa.select(attempts, tests.c.path, tests.c.case_name, MEMORY_RATIO.label("memory_ratio"))
        .join(tests, tests.c.id == attempts.c.test_id)
        .where(attempts.c.test_id == test_key, figure.is_not(None), within)
        .order_by(figure.desc(), attempts.c.started_at.desc())
        .limit(1)
    )
    return connection.execute(query).mappings().one()


def _offender(
    row: sa.RowMapping, *, rank: int, by: Resource, ranked: sa.Row[Any], reader: UsageReader
) -> OffenderRow:
    test = test_id(row)
    return OffenderRow(
        rank=rank,
        by=by,
        value=float(ranked.worst),
        test_id=test,
        suite=row["suite"],
        profile=row["profile"],
        outcome=Outcome(row["outcome"]),
        memory_peak_bytes=row["memory_peak_bytes"],
        memory_peak_is_upper_bound=row["memory_peak_is_upper_bound"],
        limit_memory_bytes=row["limit_memory_bytes"],
        memory_ratio=row["memory_ratio"],
        cpu_seconds=row["cpu_seconds"],
        duration_seconds=row["test_seconds"],
        attempts=ranked.measured,
        run_id=row["run_id"],
        attempt_id=row["id"],
        started_at=row["started_at"],
        usage=next(reader.rows(ranked.test_id, test), None),
    )

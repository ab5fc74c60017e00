"""Questions across runs: the worst offenders, and what tests use. Reads little but the index of figures."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows import test_id
from orchestrator.database.schema import attempts, tests
from orchestrator.database.statistics import percentile
from orchestrator.model import Outcome, TestId
from orchestrator.model_reports import OffenderRow, UsageRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from orchestrator.database.store import Database
    from orchestrator.model_reports import OffenderOrder, Unit

_UNJUDGED = (Outcome.INFRA.value, Outcome.INTERRUPTED.value, Outcome.SKIPPED.value)
"""Ends that say nothing about what the test itself uses."""

_RATIO = attempts.c.memory_peak_bytes * 1.0 / sa.func.nullif(attempts.c.limit_memory_bytes, 0)
_ORDERS: dict[str, sa.ColumnElement[Any]] = {
    "memory": attempts.c.memory_peak_bytes,
    "cpu": attempts.c.cpu_seconds,
    "duration": attempts.c.test_seconds,
    "memory-ratio": _RATIO,
}
RESOURCES: tuple[tuple[str, Unit], ...] = (
    ("memory_peak", "bytes"),
    ("cpu", "seconds"),
    ("duration", "seconds"),
    ("memory_ratio", "ratio"),
)
"""What `usage_report` and `diff_runs` tell of each test, with the unit."""


def _window(since: datetime | None, until: datetime | None = None) -> sa.ColumnElement[bool]:
    conditions: list[sa.ColumnElement[bool]] = [attempts.c.outcome.not_in(_UNJUDGED)]
    if since is not None:
        conditions.append(attempts.c.started_at >= since)
    if until is not None:
        conditions.append(attempts.c.started_at < until)
    return sa.and_(*conditions)


def offenders(
    db: Database, *, since: datetime | None = None, by: OffenderOrder = "memory", limit: int = 10
) -> tuple[OffenderRow, ...]:
    """The worst tests since then (None: ever), each by its one worst attempt, worst first."""
    figure = _ORDERS[by]
    worst = sa.func.max(figure).label("worst")
    ranking = (
        sa.select(attempts.c.test_id, worst, sa.func.count(figure).label("measured"))
        .where(_window(since), figure.is_not(None))
        .group_by(attempts.c.test_id)
        .order_by(worst.desc(), attempts.c.test_id)
        .limit(limit)
    )
    with db.reading() as connection:
        ranked = connection.execute(ranking).all()
        return tuple(
            _offender(connection, rank=rank, by=by, ranked=row, figure=figure, since=since)
            for rank, row in enumerate(ranked, start=1)
        )


def _offender(
    connection: sa.Connection,
    *,
    rank: int,
    by: OffenderOrder,
    ranked: sa.Row[Any],
    figure: sa.ColumnElement[Any],
    since: datetime | None,
) -> OffenderRow:
    query = (
        sa.select(attempts, tests.c.path, tests.c.case_name, _RATIO.label("memory_ratio"))
        .join(tests, tests.c.id == attempts.c.test_id)
        .where(attempts.c.test_id == ranked.test_id, figure.is_not(None), _window(since))
        .order_by(figure.desc(), attempts.c.started_at.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one()
    return OffenderRow(
        rank=rank,
        by=by,
        value=float(ranked.worst),
        test_id=test_id(row),
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
    )


def usage_report(
    db: Database, *, since: datetime | None = None, until: datetime | None = None
) -> tuple[UsageRow, ...]:
    """Per test and resource: count, maximum, mean, p50, p95, p99 within [since, until); ordered by test."""
    query = (
        sa.select(
            attempts.c.test_id,
            attempts.c.memory_peak_bytes,
            attempts.c.cpu_seconds,
            attempts.c.test_seconds,
            attempts.c.limit_memory_bytes,
        )
        .where(_window(since, until))
        .order_by(attempts.c.test_id)
    )
    with db.reading() as connection:
        names = {
            key: TestId(path=path, case=case)
            for key, path, case in connection.execute(sa.select(tests.c.id, tests.c.path, tests.c.case_name))
        }
        found = connection.execution_options(yield_per=10_000).execute(query)
        rows = [
            row for key, group in groupby(found, key=itemgetter(0)) for row in _usage_rows(names[key], list(group))
        ]
    return tuple(sorted(rows, key=lambda row: str(row.test_id)))


def _usage_rows(test: TestId, group: Sequence[Sequence[Any]]) -> Iterator[UsageRow]:
    _, memory, cpu, duration, limit = zip(*group, strict=True)
    ratios = [peak / most if peak is not None and most else None for peak, most in zip(memory, limit, strict=True)]
    for (resource, unit), values in zip(RESOURCES, (memory, cpu, duration, ratios), strict=True):
        measured = sorted(value for value in values if value is not None)
        if measured:
            yield UsageRow(
                test_id=test,
                resource=resource,
                unit=unit,
                count=len(measured),
                maximum=measured[-1],
                mean=sum(measured) / len(measured),
                p50=percentile(measured, 0.5),
                p95=percentile(measured, 0.95),
                p99=percentile(measured, 0.99),
            )

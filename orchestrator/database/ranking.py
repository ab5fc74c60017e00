"""The worst offenders across runs. Ranking reads little but the index of figures, or sums of days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.coverage import EXACT_DAYS, stretches
from orchestrator.database.resources import DAILY_NAMES, EXPRESSIONS, MEMORY_RATIO, window
from orchestrator.database.rows import test_id
from orchestrator.database.schema import attempts, daily_usage, tests
from orchestrator.database.usage import UsageReader
from orchestrator.model import Outcome
from orchestrator.model_reports import OffenderRow, Resource

if TYPE_CHECKING:
    from orchestrator.database.coverage import Stretch
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
    with db.reading() as connection:
        ranked = _ranked(connection, resource, since=since, until=until)[:limit]
        reader = UsageReader(connection, since=since, until=until, resources=(resource,))
        figure, within = EXPRESSIONS[resource], window(since, until)
        worst = [_worst_attempt(connection, row, figure, within) for row in ranked]
        return tuple(
            _offender(attempt, rank=rank, by=resource, ranked=row, reader=reader)
            for rank, (row, attempt) in enumerate(zip(ranked, worst, strict=True), start=1)
            if attempt is not None
        )


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A test's largest figure, and how many it has."""

    worst: float
    test_id: str
    measured: int


def _ranked(
    connection: sa.Connection, resource: Resource, *, since: datetime | None, until: datetime | None
) -> list[_Ranked]:
    """All tests that used something of the resource, worst first; among equals, by their key."""
    kept = connection.execute(sa.select(sa.func.min(attempts.c.started_at))).scalar()
    found: dict[str, tuple[float, int]] = {}
    for part in stretches(connection, since, until):
        query = _by_day(resource, part, kept) if part.by_day else _by_attempt(resource, part)
        for key, worst, measured in connection.execute(query):
            highest, number = found.get(key, (0.0, 0))
            found[key] = (max(highest, worst), number + int(measured))
    ranked = [_Ranked(worst, key, number) for key, (worst, number) in found.items()]
    return sorted(ranked, key=lambda row: (-row.worst, row.test_id))


def _by_attempt(resource: Resource, part: Stretch) -> sa.Select[Any]:
    figure = EXPRESSIONS[resource]
    # Grouped by the test itself, SQLite walks the index of figures from end to end, 180 MB at a million attempts,
    # where there is a day to look at. Not a bound value: PostgreSQL would take two of them for two expressions.
    test: sa.ColumnElement[Any] = attempts.c.test_id
    if part.since is not None and (part.until or datetime.now(tz=UTC)) - part.since <= timedelta(days=EXACT_DAYS):
        test = sa.func.coalesce(test, sa.literal_column("''"))
    query = sa.select(test, sa.func.max(figure), sa.func.count(figure))
    return query.where(window(part.since, part.until), figure > 0).group_by(test)


def _by_day(resource: Resource, part: Stretch, kept: datetime | None) -> sa.Select[Any]:
    """Of days whose attempts are still there: an offender is one that can be looked at."""
    days, name = daily_usage.c, DAILY_NAMES[resource]
    # No index by day: the window is long, and the rows lie in the order of tests, as they are grouped.
    day = sa.func.coalesce(days.day, "")
    highest = days[f"{name}_max"]
    query = sa.select(days.test_id, sa.func.max(highest), sa.func.sum(days[f"{name}_count"])).where(highest > 0)
    first = max((moment for moment in (part.since, kept) if moment is not None), default=None)
    if first is not None:
        query = query.where(day >= first.date().isoformat())
    if part.until is not None:
        query = query.where(day < part.until.date().isoformat())
    return query.group_by(days.test_id)


def _worst_attempt(
    connection: sa.Connection,
    ranked: _Ranked,
    figure: sa.ColumnElement[Any],
    within: sa.ColumnElement[bool],
) -> sa.RowMapping | None:
    query = (
        sa.select(attempts, tests.c.path, tests.c.case_name, MEMORY_RATIO.label("memory_ratio"))
        .join(tests, tests.c.id == attempts.c.test_id)
        .where(attempts.c.test_id == ranked.test_id, figure >= ranked.worst, within)
        .order_by(figure.desc(), attempts.c.started_at.desc())
        .limit(1)
    )
    return connection.execute(query).mappings().first()


def _offender(row: sa.RowMapping, *, rank: int, by: Resource, ranked: _Ranked, reader: UsageReader) -> OffenderRow:
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

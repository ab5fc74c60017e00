"""Rank the tests that use most of a resource. Ranking reads little more than the index of figures, or sums of
days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.queries.usage import UsageReader
from orchestrator.database.rollups.daily import midnight
from orchestrator.database.rollups.window_parts import EXACT_DAYS, split_window
from orchestrator.database.rows.mapping import test_id
from orchestrator.database.rows.raw_rows import fetch_raw
from orchestrator.database.schema.resource_columns import (
    DAILY_NAMES,
    EXPRESSIONS,
    MEMORY_RATIO,
    tests_of,
    unindexed,
    window,
)
from orchestrator.database.schema.tables import attempts, daily_usage, tests
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.stored import OffenderRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.database.rollups.window_parts import WindowPart
    from orchestrator.database.store.store import Database


def offenders(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    by: str = Resource.MEMORY,
    limit: int = 10,
) -> tuple[OffenderRow, ...]:
    """Return the tests that use most within [since, until) (None: unbounded), each with its one highest attempt,
    highest first.

    `by`: a value of `Resource`. A test that used nothing of the resource is left out.
    """
    resource = Resource(by)
    return offenders_by(db, (resource,), since=since, until=until, limit=limit)[resource]


def offenders_by(
    db: Database,
    resources: Sequence[Resource],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 10,
) -> Mapping[Resource, tuple[OffenderRow, ...]]:
    """Return `offenders` for each of several resources, ranked in one pass."""
    found = {}
    with db.reading() as connection:
        ranking = _ranked(connection, resources, since=since, until=until, project=db.scope(connection))
        for resource, ranked in ranking.items():
            reader = UsageReader(connection, since=since, until=until, resources=(resource,))
            worst = [_worst_attempt(connection, row, resource) for row in ranked[:limit]]
            found[resource] = tuple(
                _offender(attempt, rank=rank, by=resource, ranked=row, reader=reader)
                for rank, (row, attempt) in enumerate(zip(ranked, worst, strict=False), start=1)
                if attempt is not None
            )
    return found


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A test's largest figure, and the number of attempts in which it used any of the resource."""

    worst: float
    test_id: str
    measured: int
    parts: tuple[WindowPart, ...]
    """The parts of the window in which the test reached this figure, newest first."""


def _ranked(
    connection: sa.Connection,
    resources: Sequence[Resource],
    *,
    since: datetime | None,
    until: datetime | None,
    project: str | None,
) -> Mapping[Resource, list[_Ranked]]:
    """Return, for each resource, all tests that used any of it, highest first; tests with equal figures in order
    of their keys.
    """
    kept = connection.execute(sa.select(sa.func.min(attempts.c.started_at))).scalar()
    found: dict[Resource, dict[str, _Ranked]] = {resource: {} for resource in resources}
    for part in split_window(connection, since, until):
        query = _by_day(resources, part, kept) if part.by_day else _by_attempt(resources, part)
        key_of = daily_usage.c.test_id if part.by_day else attempts.c.test_id
        for key, *figures in fetch_raw(connection, query.where(*tests_of(key_of, project))):
            for resource, worst, measured in zip(resources, figures[::2], figures[1::2], strict=True):
                if worst is not None and worst > 0:
                    this = _Ranked(worst, key, int(measured), (part,))
                    earlier = found[resource].get(key)
                    found[resource][key] = this if earlier is None else _joined(earlier, this)
    return {resource: _in_order(tests.values()) for resource, tests in found.items()}


def _joined(earlier: _Ranked, later: _Ranked) -> _Ranked:
    measured = earlier.measured + later.measured
    if earlier.worst == later.worst:
        return replace(later, measured=measured, parts=later.parts + earlier.parts)
    return replace(max(earlier, later, key=lambda row: row.worst), measured=measured)


def _in_order(found: Iterable[_Ranked]) -> list[_Ranked]:
    return sorted(found, key=lambda row: (-row.worst, row.test_id))


def _by_attempt(resources: Sequence[Resource], part: WindowPart) -> sa.Select[Any]:
    # If the query groups by the plain column, SQLite reads the whole index of figures, 180 MB at a million
    # attempts, even for one day.
    test: sa.ColumnElement[Any] = attempts.c.test_id
    if part.since is not None and (part.until or datetime.now(tz=UTC)) - part.since <= timedelta(days=EXACT_DAYS):
        test = unindexed(test)
    figures = [EXPRESSIONS[resource] for resource in resources]
    counts = [sa.func.count(sa.case((figure > 0, figure))) for figure in figures]
    query = sa.select(test, *chain(*zip(map(sa.func.max, figures), counts, strict=True)))
    return query.where(window(part.since, part.until)).group_by(test)


def _by_day(resources: Sequence[Resource], part: WindowPart, kept: datetime | None) -> sa.Select[Any]:
    """Build the query of a part read by day. Days whose attempts are deleted are left out, because an offender is
    an attempt that can be shown.
    """
    days, names = daily_usage.c, [DAILY_NAMES[resource] for resource in resources]
    # The index by day would be slower: the window is long, and rows are stored in order of tests.
    day = unindexed(days.day)
    highest = [days[f"{name}_max"] for name in names]
    counts = [
        sa.func.sum(sa.case((most > 0, days[f"{name}_count"]))) for most, name in zip(highest, names, strict=True)
    ]
    query = sa.select(days.test_id, *chain(*zip(map(sa.func.max, highest), counts, strict=True)))
    first = max((moment for moment in (part.since, kept) if moment is not None), default=None)
    if first is not None:
        query = query.where(day >= first.date().isoformat())
    if part.until is not None:
        query = query.where(day < part.until.date().isoformat())
    return query.group_by(days.test_id)


def _worst_attempt(connection: sa.Connection, ranked: _Ranked, resource: Resource) -> sa.RowMapping | None:
    """Return the newest attempt that reached the figure, or None if it was deleted meanwhile."""
    figure = EXPRESSIONS[resource]
    query = (
        sa.select(attempts, tests.c.path, tests.c.case_name, MEMORY_RATIO.label("memory_ratio"))
        .join(tests, tests.c.id == attempts.c.test_id)
        .where(attempts.c.test_id == ranked.test_id, figure >= ranked.worst)
        .order_by(attempts.c.started_at.desc())
        .limit(1)
    )
    for part in ranked.parts:
        bounds = _newest_day(connection, ranked, resource, part) if part.by_day else (part.since, part.until)
        if bounds is not None:
            found = connection.execute(query.where(window(*bounds))).mappings().first()
            if found is not None:
                return found
    return None


def _newest_day(
    connection: sa.Connection, ranked: _Ranked, resource: Resource, part: WindowPart
) -> tuple[datetime, datetime] | None:
    """Return the bounds of the last day of a part on which the test reached the figure. Searching all attempts
    would take 20 ms.
    """
    columns = daily_usage.c
    query = (
        sa.select(columns.day)
        .where(columns.test_id == ranked.test_id, columns[f"{DAILY_NAMES[resource]}_max"] >= ranked.worst)
        .where(part.holds(columns.day))
        .order_by(columns.day.desc())
        .limit(1)
    )
    day = connection.execute(query).scalar()
    if day is None:
        return None
    start = midnight(date.fromisoformat(day))
    return start, start + timedelta(days=1)


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
        memory_floor_bytes=row["memory_floor_bytes"],
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

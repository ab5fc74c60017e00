"""Read a window that has too many attempts to read each of them: the highest figures of each test, and the total
cost of all attempts, from the sums of days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups.window_parts import EXACT_DAYS, split_window
from orchestrator.database.rows.raw_rows import fetch_raw
from orchestrator.database.schema.resource_columns import DAILY_NAMES, EXPRESSIONS, tests_of, unindexed, window
from orchestrator.database.schema.tables import attempts, daily_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.database.rollups.window_parts import WindowPart
    from orchestrator.model.resources import Resource

    Columns = Sequence[sa.ColumnElement[Any]]

_FEW_DAYS = 10
EXACT_ATTEMPTS = 40_000
"""The largest number of attempts that are read one by one. Reading that many takes a second; finding that there
are more takes 4 ms.
"""


@dataclass(slots=True)
class WindowSums:
    """Totals over all tests of a window, and the highest figures of each test."""

    attempts: int = 0
    """The number of attempts, whatever their outcome."""
    cpu_seconds: float | None = None
    """The CPU time of all judged attempts, or None if it was not measured."""
    test_seconds: float = 0.0
    """The duration of all judged attempts."""
    highest: dict[str, dict[Resource, float]] = field(default_factory=dict)
    """Key of a test -> its highest figure of each resource that was measured."""


def is_long(connection: sa.Connection, since: datetime | None, until: datetime) -> bool:
    """Return True if the window [since, until) has too many attempts or days to be read by attempt. Attempts of
    other projects in the database count too.
    """
    first = since
    if first is None:
        first = connection.execute(sa.select(sa.func.min(attempts.c.started_at))).scalar()
    if first is None:
        return False
    if until - first.astimezone(UTC) > timedelta(days=EXACT_DAYS):
        return True
    within = sa.select(sa.literal(1)).where(attempts.c.started_at >= first, attempts.c.started_at < until)
    some = within.limit(EXACT_ATTEMPTS + 1).subquery()
    return bool(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one() > EXACT_ATTEMPTS)


def window_sums(
    connection: sa.Connection,
    since: datetime | None,
    until: datetime,
    resources: Sequence[Resource],
    *,
    project: str | None,
) -> WindowSums:
    """Return the sums of the window [since, until), read by day where days are summed up, otherwise by attempt.
    `project`: the id of a project, or None for all.
    """
    found = WindowSums()
    for part in split_window(connection, since, until, exact_days=0):
        by_day = part.by_day
        key_of = daily_usage.c.test_id if by_day else attempts.c.test_id
        query = _by_day(part, resources) if by_day else _by_attempt(part, resources)
        query = query.where(*tests_of(key_of, project))
        for key, number, cpu, seconds, *highest in fetch_raw(connection, query):
            found.attempts += number
            found.test_seconds += seconds or 0.0
            if cpu is not None:
                found.cpu_seconds = (found.cpu_seconds or 0.0) + cpu
            known = found.highest.setdefault(key, {})
            for resource, value in zip(resources, highest, strict=True):
                if value is not None:
                    known[resource] = max(value, known.get(resource, value))
    return found


def _by_day(part: WindowPart, resources: Sequence[Resource]) -> sa.Select[Any]:
    days = daily_usage.c
    # For more than a few days the index by day would be slower: rows are stored in the order of tests, by which
    # they are grouped.
    day = unindexed(days.day) if part.days > _FEW_DAYS else days.day
    sums: Columns = [sa.func.sum(days[name]) for name in ("attempts", "cpu_seconds_sum", "test_seconds_sum")]
    highest: Columns = [sa.func.max(days[f"{DAILY_NAMES[resource]}_max"]) for resource in resources]
    return sa.select(days.test_id, *sums, *highest).where(part.holds(day)).group_by(days.test_id)


def _by_attempt(part: WindowPart, resources: Sequence[Resource]) -> sa.Select[Any]:
    judged = window(None)
    cpu, seconds = attempts.c.cpu_seconds, attempts.c.test_seconds
    sums: Columns = [sa.func.count(), *(sa.func.sum(sa.case((judged, figure))) for figure in (cpu, seconds))]
    highest: Columns = [sa.func.max(sa.case((judged, EXPRESSIONS[resource]))) for resource in resources]
    test = unindexed(attempts.c.test_id)
    query = sa.select(test, *sums, *highest).group_by(test)
    if part.since is not None:
        query = query.where(attempts.c.started_at >= part.since)
    return query if part.until is None else query.where(attempts.c.started_at < part.until)

"""Divide a window of time into parts that are read from attempts and parts that are read from the sums of days.

A short window is read from attempts, which is exact and fast. A long window is read by day, except for the rest of
a day at either end, for today and for days that are not summed up yet. Attempts that retention has deleted are
known by day only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.database.rollups.daily import midnight, today
from orchestrator.database.schema.tables import attempts, daily_usage, runs, stale_days

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT_DAYS = 35
"""The longest window that is read from attempts, in days."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPart:
    """One part of a window, [since, until). None: unbounded on that side."""

    since: datetime | None
    until: datetime | None
    by_day: bool
    """True if it is read from the sums of days; both bounds are then midnights."""

    @property
    def days(self) -> int:
        """The approximate number of days, at least 1."""
        if self.since is None or self.until is None:
            return 1
        return max(1, (self.until - self.since).days)

    def holds(self, day: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return the SQL condition that a day, in the form of `daily_usage.day`, lies within this part."""
        assert self.since is not None and self.until is not None  # noqa: S101, PT018 - a part that is read by day has both; for the type checker
        return sa.and_(day >= self.since.date().isoformat(), day < self.until.date().isoformat())


def split_window(
    connection: sa.Connection, since: datetime | None, until: datetime | None, *, exact_days: int = EXACT_DAYS
) -> tuple[WindowPart, ...]:
    """Return the parts of the window [since, until) in order of time, as few as possible. A window of up to
    `exact_days` days is read from attempts.
    """
    bounds = _days_read_by_day(connection, since, until, exact_days)
    if bounds is None:
        return (WindowPart(since=since, until=until, by_day=False),)
    first, last = bounds
    stale = sa.select(stale_days.c.day).where(stale_days.c.day >= str(first), stale_days.c.day < str(last))
    unready = {date.fromisoformat(day) for day in connection.execute(stale).scalars()}
    parts = (
        [WindowPart(since=since, until=midnight(first), by_day=False)] if _before(since, midnight(first)) else []
    )
    for start, end in _runs_of_days(first, last, unready):
        parts.append(WindowPart(since=midnight(start), until=midnight(end), by_day=start not in unready))
    if _before(midnight(last), until):
        parts.append(WindowPart(since=midnight(last), until=until, by_day=False))
    return tuple(parts)


def _before(start: datetime | None, end: datetime | None) -> bool:
    return start is None or end is None or start < end


def _runs_of_days(first: date, last: date, unready: set[date]) -> Sequence[tuple[date, date]]:
    """Divide [first, last) where days that are summed up and days that are not meet."""
    days = [first + _DAY * n for n in range((last - first).days)]
    cuts = [first, *(b for a, b in pairwise(days) if (a in unready) != (b in unready)), last]
    return list(pairwise(cuts))


def _days_read_by_day(
    connection: sa.Connection, since: datetime | None, until: datetime | None, exact_days: int
) -> tuple[date, date] | None:
    """Return [first, last) of the whole days that may be read by day, or None if there are none."""
    oldest = connection.execute(sa.select(sa.func.min(daily_usage.c.day))).scalar()
    if oldest is None:
        return None
    first, last = date.fromisoformat(oldest), today()
    if since is not None:
        first = max(first, (since.astimezone(UTC) - timedelta(microseconds=1)).date() + _DAY)
    if until is not None:
        last = min(last, until.astimezone(UTC).date())
    if since is not None and (until or datetime.now(tz=UTC)) - since <= timedelta(days=exact_days):
        kept = connection.execute(sa.select(sa.func.min(attempts.c.started_at))).scalar()
        if kept is not None:
            last = min(last, kept.date() + _DAY)  # retention may have deleted attempts of the oldest day
    running = sa.select(sa.func.min(runs.c.started_at)).where(runs.c.status == "running")
    unfinished = connection.execute(running).scalar()
    if unfinished is not None:  # a run marks its days as stale when it ends
        last = min(last, unfinished.date())
    return (first, last) if first < last else None

"""Which part of a window is read from attempts, and which from the sums of days.

Short windows are read from attempts: exact, and quick. A long one is read by day, but for its ragged ends, for
today and for days that are not summed up (yet). What retention has removed is there by day only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.database.rollups.daily import midnight, today
from orchestrator.database.schema.tables import attempts, daily_usage, runs, stale_days, summed_months

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

EXACT_DAYS = 35
"""Windows up to this length are read from attempts."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPart:
    """One part of a window, [since, until); None: without that bound."""

    since: datetime | None
    until: datetime | None
    by_day: bool
    """Read from the sums of days; both bounds are midnights then."""
    by_month: bool = False
    """Of them, whole months that are put together."""

    @property
    def days(self) -> int:
        """About how many days it has, at least 1."""
        if self.since is None or self.until is None:
            return 1
        return max(1, (self.until - self.since).days)

    def holds(self, day: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Whether a day, as `daily_usage` has it, is one of its days."""
        assert self.since is not None and self.until is not None  # noqa: S101, PT018 - days have both; for the type checker
        return sa.and_(day >= self.since.date().isoformat(), day < self.until.date().isoformat())


def split_window(
    connection: sa.Connection, since: datetime | None, until: datetime | None, *, exact_days: int = EXACT_DAYS
) -> tuple[WindowPart, ...]:
    """The window in order of time, in few parts. `exact_days`: up to so many are read from attempts."""
    bounds = _days(connection, since, until, exact_days)
    if bounds is None:
        return (WindowPart(since=since, until=until, by_day=False),)
    first, last = bounds
    stale = sa.select(stale_days.c.day).where(stale_days.c.day >= str(first), stale_days.c.day < str(last))
    unready = {date.fromisoformat(day) for day in connection.execute(stale).scalars()}
    parts = (
        [WindowPart(since=since, until=midnight(first), by_day=False)] if _before(since, midnight(first)) else []
    )
    for start, end in _alike(first, last, unready):
        parts.append(WindowPart(since=midnight(start), until=midnight(end), by_day=start not in unready))
    if _before(midnight(last), until):
        parts.append(WindowPart(since=midnight(last), until=until, by_day=False))
    return tuple(parts)


def by_months(connection: sa.Connection, parts: Sequence[WindowPart]) -> tuple[WindowPart, ...]:
    """The same, with what is put together by month cut out of what is read by day."""
    ready = set(connection.execute(sa.select(summed_months.c.month)).scalars())
    return tuple(piece for part in parts for piece in (_in_months(part, ready) if part.by_day else (part,)))


def _in_months(part: WindowPart, ready: Collection[str]) -> list[WindowPart]:
    pieces: list[tuple[date, date, bool]] = []
    assert part.since is not None and part.until is not None  # noqa: S101, PT018 - days have both; for the type checker
    start, last = part.since.date(), part.until.date()
    while start < last:
        end = (start.replace(day=1) + timedelta(days=31)).replace(day=1)
        whole = start.day == 1 and end <= last and start.isoformat()[:7] in ready
        end = min(end, last)
        if pieces and pieces[-1][2] == whole:
            pieces[-1] = (pieces[-1][0], end, whole)
        else:
            pieces.append((start, end, whole))
        start = end
    return [
        WindowPart(since=midnight(begin), until=midnight(end), by_day=not whole, by_month=whole)
        for begin, end, whole in pieces
    ]


def _before(start: datetime | None, end: datetime | None) -> bool:
    return start is None or end is None or start < end


def _alike(first: date, last: date, unready: set[date]) -> Sequence[tuple[date, date]]:
    """[first, last) cut where days that are summed up meet days that are not."""
    days = [first + _DAY * n for n in range((last - first).days)]
    cuts = [first, *(b for a, b in pairwise(days) if (a in unready) != (b in unready)), last]
    return list(pairwise(cuts))


def _days(
    connection: sa.Connection, since: datetime | None, until: datetime | None, exact_days: int
) -> tuple[date, date] | None:
    """[first, last) of the whole days that may be read by day; None: none."""
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
            last = min(last, kept.date() + _DAY)  # of the oldest day, some may be gone
    running = sa.select(sa.func.min(runs.c.started_at)).where(runs.c.status == "running")
    unfinished = connection.execute(running).scalar()
    if unfinished is not None:  # it marks its days when it ends
        last = min(last, unfinished.date())
    return (first, last) if first < last else None

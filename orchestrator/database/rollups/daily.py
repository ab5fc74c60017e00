"""Sum up each test's attempts of a day, so that reports over a year read days, and outlive the attempts.

A day is summed up once it is over. Until then, and whenever attempts of it arrive late (from a spooled run or a
merged database), it is listed in `stale_days`, and reports read its attempts. A row is replaced only by one that
is made from more attempts. So the sums of attempts that retention has deleted stay, whatever arrives late and in
which order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups.quantile_sketch import sketch
from orchestrator.database.rows.upserts import insert_missing
from orchestrator.database.schema.resource_columns import DAILY_NAMES, EXPRESSIONS, UNJUDGED
from orchestrator.database.schema.tables import OUTCOMES, attempts, daily_usage, runs, stale_days, violations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = dict[str, Any]

_KEY = ("test_id", "day", "origin")
_COLUMNS = tuple(column.name for column in daily_usage.columns)
_FACTS = ("test_id", "origin", "outcome", "flaky")


def today() -> date:
    """Return the present day (UTC). It is not summed up, because it is not over."""
    return datetime.now(tz=UTC).date()


def midnight(day: date) -> datetime:
    """Return the beginning of a day (UTC)."""
    return datetime.combine(day, time(), tzinfo=UTC)


def mark_run_stale(connection: sa.Connection, run_id: str) -> None:
    """Mark the days of a run's attempts as stale: they are summed up, or summed up again, once they are over."""
    span = sa.select(sa.func.min(attempts.c.started_at), sa.func.max(attempts.c.started_at))
    first, last = connection.execute(span.where(attempts.c.run_id == run_id)).one()
    if first is not None:
        number = (last.date() - first.date()).days + 1
        mark_stale(connection, (first.date() + timedelta(days=n) for n in range(number)))


def mark_stale(connection: sa.Connection, days: Iterable[date]) -> None:
    """Mark days as stale: they are summed up, or summed up again, once they are over."""
    insert_missing(connection, stale_days, [{"day": day.isoformat()} for day in days])


def due_days(connection: sa.Connection) -> list[date]:
    """Return the stale days that are over, oldest first."""
    query = sa.select(stale_days.c.day).where(stale_days.c.day < today().isoformat()).order_by(stale_days.c.day)
    return [date.fromisoformat(day) for day in connection.execute(query).scalars()]


def sum_up_day(connection: sa.Connection, day: date) -> None:
    """Sum up the attempts of a day within the caller's transaction, and remove the day from `stale_days`."""
    store_most_complete(connection, day.isoformat(), _rows(connection, day))
    connection.execute(stale_days.delete().where(stale_days.c.day == day.isoformat()))


def store_most_complete(connection: sa.Connection, day: str, rows: Sequence[Row]) -> None:
    """Store rows of a day, except those made from fewer attempts than the stored row of the same key."""
    stored = {
        (row["test_id"], row["origin"]): row
        for row in connection.execute(sa.select(daily_usage).where(daily_usage.c.day == day)).mappings()
    }
    better = [r for r in rows if _completeness(r) > _completeness(stored.get((r["test_id"], r["origin"])))]
    replaced = [r for r in better if (r["test_id"], r["origin"]) in stored]
    if replaced:
        same = [daily_usage.c[name] == sa.bindparam(f"old_{name}") for name in _KEY]
        connection.execute(
            daily_usage.delete().where(*same), [{f"old_{name}": r[name] for name in _KEY} for r in replaced]
        )
    if better:
        connection.execute(daily_usage.insert(), better)


def _completeness(row: Mapping[Any, Any] | None) -> tuple[int, str]:
    """Return the sort key that decides between two rows: the number of attempts, then the content, so that the
    result does not depend on their order.
    """
    if row is None:
        return -1, ""
    return row["attempts"], repr([row[name] for name in _COLUMNS])


def _rows(connection: sa.Connection, day: date) -> list[Row]:
    within = (attempts.c.started_at >= midnight(day), attempts.c.started_at < midnight(day + timedelta(days=1)))
    origin = sa.func.coalesce(runs.c.origin, "").label("origin")
    of_that_day = attempts.join(runs, runs.c.id == attempts.c.run_id)
    figures = [EXPRESSIONS[resource] for resource in DAILY_NAMES]
    facts = sa.select(attempts.c.test_id, origin, attempts.c.outcome, attempts.c.is_flaky, *figures)
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in connection.execute(facts.select_from(of_that_day).where(*within)):
        groups[row[0], row[1]].append(row)
    broken = (
        sa.select(attempts.c.test_id, origin, sa.func.count())
        .select_from(of_that_day.join(violations, violations.c.attempt_id == attempts.c.id))
        .where(*within, attempts.c.is_final)
        .group_by(attempts.c.test_id, origin)
    )
    found = {(test, source): int(number) for test, source, number in connection.execute(broken)}
    return [
        {"test_id": key[0], "day": day.isoformat(), "origin": key[1], "violations": found.get(key, 0)}
        | _sums(group)
        for key, group in groups.items()
    ]


def _sums(group: Sequence[Any]) -> Row:
    row: Row = {"attempts": len(group), "flaky": sum(bool(r[3]) for r in group)}
    row |= {outcome: sum(r[2] == outcome for r in group) for outcome in OUTCOMES}
    judged = [r for r in group if r[2] not in UNJUDGED]
    for place, name in enumerate(DAILY_NAMES.values(), start=len(_FACTS)):
        values = [float(r[place]) for r in judged if r[place] is not None]
        row |= {
            f"{name}_count": len(values),
            # fsum: the result does not depend on the order
            f"{name}_sum": math.fsum(values) if values else None,
            f"{name}_min": min(values, default=None),
            f"{name}_max": max(values, default=None),
            f"{name}_sketch": sketch(values) if values else None,
        }
    return row

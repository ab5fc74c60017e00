"""Sums up each test's attempts of a day, so that reports over a year read days, and outlive the attempts.

A day is summed up once it is over. Until then, and whenever something of it comes late (a spooled run, a
merged database), it is in `stale_days`, and reports read its attempts themselves. A row is replaced only by
one that rests on more attempts: what retention has removed stays summed up, whatever comes late, in any order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups import monthly
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
    """The present day (UTC), which no sum is made of."""
    return datetime.now(tz=UTC).date()


def midnight(day: date) -> datetime:
    """When a day begins (UTC)."""
    return datetime.combine(day, time(), tzinfo=UTC)


def mark_run_stale(connection: sa.Connection, run_id: str) -> None:
    """Have the days of a run's attempts summed up (again) once they are over."""
    span = sa.select(sa.func.min(attempts.c.started_at), sa.func.max(attempts.c.started_at))
    first, last = connection.execute(span.where(attempts.c.run_id == run_id)).one()
    if first is not None:
        number = (last.date() - first.date()).days + 1
        mark_stale(connection, (first.date() + timedelta(days=n) for n in range(number)))


def mark_stale(connection: sa.Connection, days: Iterable[date]) -> None:
    """Have these days summed up (again)."""
    insert_missing(connection, stale_days, [{"day": day.isoformat()} for day in days])


def due_days(connection: sa.Connection) -> list[date]:
    """Days that are over and not summed up, oldest first."""
    query = sa.select(stale_days.c.day).where(stale_days.c.day < today().isoformat()).order_by(stale_days.c.day)
    return [date.fromisoformat(day) for day in connection.execute(query).scalars()]


def sum_up(connection: sa.Connection, day: date) -> None:
    """Sum up a day from its attempts, inside the caller's transaction."""
    store_most_complete(connection, day.isoformat(), _rows(connection, day))
    connection.execute(stale_days.delete().where(stale_days.c.day == day.isoformat()))


def store_most_complete(connection: sa.Connection, day: str, rows: Sequence[Row]) -> None:
    """Store rows of a day, but none that rests on fewer attempts than the one that is there."""
    stored = {
        (row["test_id"], row["origin"]): row
        for row in connection.execute(sa.select(daily_usage).where(daily_usage.c.day == day)).mappings()
    }
    better = [r for r in rows if _rank(r) > _rank(stored.get((r["test_id"], r["origin"])))]
    replaced = [r for r in better if (r["test_id"], r["origin"]) in stored]
    if replaced:
        same = [daily_usage.c[name] == sa.bindparam(f"old_{name}") for name in _KEY]
        connection.execute(
            daily_usage.delete().where(*same), [{f"old_{name}": r[name] for name in _KEY} for r in replaced]
        )
    if better:
        connection.execute(daily_usage.insert(), better)
        monthly.forget(connection, [day[:7]])


def _rank(row: Mapping[Any, Any] | None) -> tuple[int, str]:
    """The second makes it certain which of two wins that rest on equally many, whichever came first."""
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
            # fsum: the same whatever the order
            f"{name}_sum": math.fsum(values) if values else None,
            f"{name}_min": min(values, default=None),
            f"{name}_max": max(values, default=None),
            f"{name}_sketch": sketch(values) if values else None,
        }
    return row

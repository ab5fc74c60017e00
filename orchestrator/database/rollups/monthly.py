"""Puts sums of days together by month, so that a report over a year reads 13 rows of a test and not 400.

A month is nothing but its days: whatever changes a day (a late shard, retention) drops its month, and the next
upkeep makes it anew. `summed_months` says which are there.
"""

from __future__ import annotations

import math
from array import array
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups.quantile_sketch import united
from orchestrator.database.rows.encoding import little_endian
from orchestrator.database.rows.raw_rows import fetch_raw
from orchestrator.database.schema.tables import DAILY_FIGURES, daily_usage, monthly_usage, summed_months

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PARTS = ("sum", "max", "sketch")


def next_month(month: str) -> str:
    """The month after `2026-12`: `2027-01`."""
    return (date.fromisoformat(f"{month}-01") + timedelta(days=31)).isoformat()[:7]


def due_periods(connection: sa.Connection, today: date) -> list[str]:
    """Months that are over, have been recorded from their first day on, and are not put together; oldest first."""
    oldest = connection.execute(sa.select(sa.func.min(daily_usage.c.day))).scalar()
    if oldest is None:
        return []
    there = set(connection.execute(sa.select(summed_months.c.month)).scalars())
    month = oldest[:7] if oldest.endswith("-01") else next_month(oldest[:7])
    found = []
    while month < today.isoformat()[:7]:
        if month not in there:
            found.append(month)
        month = next_month(month)
    return found


def put_together(connection: sa.Connection, month: str) -> None:
    """Make the rows of a month from those of its days, inside the caller's transaction."""
    forget(connection, [month])
    days, figures = daily_usage.c, [f"{name}_{part}" for name in DAILY_FIGURES for part in _PARTS]
    query = (
        sa.select(days.test_id, *(days[name] for name in figures))
        .where(days.day >= f"{month}-01", days.day < f"{next_month(month)}-01")
        .order_by(days.test_id, days.day, days.origin)
    )
    rows = [
        {"test_id": test, "month": month, **_sums(list(group))}
        for test, group in groupby(fetch_raw(connection, query), key=itemgetter(0))
    ]
    if rows:
        connection.execute(monthly_usage.insert(), rows)
    connection.execute(summed_months.insert(), {"month": month})


def _sums(days: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    _, *columns = zip(*days, strict=True)
    row: dict[str, Any] = {}
    for place, name in enumerate(DAILY_FIGURES):
        sums, maxima, sketches = (
            [value for value in column if value is not None] for column in columns[3 * place : 3 * place + 3]
        )
        row[f"{name}_sum"] = math.fsum(sums) if sums else None
        row[f"{name}_maxima"] = packed_maxima(maxima) if maxima else None
        row[f"{name}_sketch"] = united(sketches) if sketches else None
    return row


def packed_maxima(maxima: Iterable[float]) -> bytes:
    """Eight bytes each, the lowest first (IEEE 754)."""
    return little_endian(array("d", maxima)).tobytes()


def maxima_of(packed: Sequence[bytes]) -> Sequence[float]:
    """Inverse of `packed_maxima`, of several one after the other. ValueError for anything else."""
    values = array("d")
    values.frombytes(b"".join(packed))
    return little_endian(values)


def forget(connection: sa.Connection, months: Iterable[str]) -> None:
    """Drop what is put together of these months: their days have changed."""
    for month in set(months):
        if connection.execute(summed_months.delete().where(summed_months.c.month == month)).rowcount:
            connection.execute(monthly_usage.delete().where(monthly_usage.c.month == month))


def forget_before(connection: sa.Connection, day: str) -> None:
    """Drop months that have days before this one."""
    connection.execute(summed_months.delete().where(summed_months.c.month <= day[:7]))
    connection.execute(monthly_usage.delete().where(monthly_usage.c.month <= day[:7]))

"""What keeps a database small: days summed up, old runs deleted, time series thinned, room given back."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from orchestrator.database.files.connect import outside_transaction, pragma
from orchestrator.database.files.open import write_connection
from orchestrator.database.rollups import daily, monthly
from orchestrator.database.rows import projects
from orchestrator.database.rows.encoding import pack_samples, unpack_samples
from orchestrator.database.schema.tables import attempts, daily_usage, runs, samples, tests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from orchestrator.model.usage import Sample

MINIMUM_RECORDS_DAYS = 7
MONTHS_AT_ONCE = 1
"""Months that are put together where days are limited: 0.9 s for 500 tests of five runs a day."""


class RecordsRetention(Protocol):
    """The part of the configuration's Retention that concerns the database."""

    @property
    def records_days(self) -> int:
        """Days that runs and what belongs to them are kept."""

    @property
    def rollups_days(self) -> int:
        """Days that sums of days are kept."""

    @property
    def samples_days(self) -> int:
        """Days that time series are kept."""

    @property
    def samples_full_days(self) -> int:
        """Days that they are kept with every point."""


def prune(engine: sa.Engine, retention: RecordsRetention, *, thin_at_most: int | None) -> int:
    """As `Database.prune`."""
    cutoff = _before(max(retention.records_days, MINIMUM_RECORDS_DAYS))
    doomed = _ids(engine, runs.c.started_at < daily.midnight(cutoff), runs.c.status != "running")
    if doomed:
        sum_up(engine)  # before it is too late
    for run_id in doomed:  # one by one, so that the log stays small and others get their turn
        with write_connection(engine) as connection, connection.begin():
            connection.execute(runs.delete().where(runs.c.id == run_id))
    forgotten = _forget_days(engine, _before(max(retention.rollups_days, MINIMUM_RECORDS_DAYS)))
    if doomed or forgotten:
        _forget_unused_tests(engine)
    thin(engine, retention, at_most=thin_at_most)
    if engine.dialect.name == "sqlite":
        pragma(engine, "incremental_vacuum")
    return len(doomed)


def sum_up(engine: sa.Engine, *, at_most: int | None = None) -> int:
    """Sum up days that are over, oldest first, each in a transaction of its own; returns how many."""
    with engine.connect() as connection, connection.begin():
        days = daily.due_days(connection)[:at_most]
    for day in days:
        with write_connection(engine) as connection, connection.begin():
            daily.sum_up(connection, day)
    _put_months_together(engine, at_most=None if at_most is None else MONTHS_AT_ONCE)
    return len(days)


def _put_months_together(engine: sa.Engine, *, at_most: int | None) -> None:
    with engine.connect() as connection, connection.begin():
        months = monthly.due_periods(connection, daily.today())[:at_most]
    for month in months:
        with write_connection(engine) as connection, connection.begin():
            monthly.put_together(connection, month)


def thin(engine: sa.Engine, retention: RecordsRetention, *, at_most: int | None) -> None:
    """Delete time series of runs that are too old, thin those of runs that are old."""
    gone = runs.c.started_at < daily.midnight(_before(retention.samples_days))
    for run_id in _ids(engine, gone, runs.c.samples_kept != "none", runs.c.status != "running")[:at_most]:
        with write_connection(engine) as connection, connection.begin():
            connection.execute(samples.delete().where(samples.c.attempt_id.in_(_attempts_of(run_id))))
            _keep(connection, run_id, "none")
    old = runs.c.started_at < daily.midnight(_before(retention.samples_full_days))
    for run_id in _ids(engine, old, runs.c.samples_kept == "full", runs.c.status != "running")[:at_most]:
        with write_connection(engine) as connection, connection.begin():
            _thin_run(connection, run_id)


def _thin_run(connection: sa.Connection, run_id: str) -> None:
    query = sa.select(samples.c.attempt_id, samples.c.series)
    long = (samples.c.attempt_id.in_(_attempts_of(run_id)), samples.c.samples_count > THINNED_POINTS)
    for attempt_id, series in connection.execute(query.where(*long)).all():
        points = thin_series(unpack_samples(series))
        change = {"samples_count": len(points), "series": pack_samples(points)}
        connection.execute(samples.update().where(samples.c.attempt_id == attempt_id).values(**change))
    _keep(connection, run_id, "thinned")


def _attempts_of(run_id: str) -> sa.Select[tuple[str]]:
    return sa.select(attempts.c.id).where(attempts.c.run_id == run_id)


def _keep(connection: sa.Connection, run_id: str, kept: str) -> None:
    connection.execute(runs.update().where(runs.c.id == run_id).values(samples_kept=kept))


def _before(days: int) -> date:
    return daily.today() - timedelta(days=days)


def _ids(engine: sa.Engine, *where: sa.ColumnElement[bool]) -> list[str]:
    with engine.connect() as connection, connection.begin():
        found = connection.execute(sa.select(runs.c.id).where(*where).order_by(runs.c.started_at))
        return list(found.scalars())


def _forget_days(engine: sa.Engine, cutoff: date) -> int:
    with write_connection(engine) as connection, connection.begin():
        old = connection.execute(daily_usage.delete().where(daily_usage.c.day < cutoff.isoformat()))
        if old.rowcount:
            monthly.forget_before(connection, cutoff.isoformat())
        return old.rowcount


def _forget_unused_tests(engine: sa.Engine) -> None:
    ran = sa.exists().where(attempts.c.test_id == tests.c.id)
    summed = sa.exists().where(daily_usage.c.test_id == tests.c.id)
    with write_connection(engine) as connection, connection.begin():
        connection.execute(tests.delete().where(~ran, ~summed))
        projects.delete_unused(connection)


def vacuum(engine: sa.Engine) -> None:
    """Give back all room, and have the engine look anew at how values are spread."""
    for statement in ("VACUUM", "ANALYZE"):
        outside_transaction(engine, statement)
    if engine.dialect.name == "sqlite":
        pragma(engine, "wal_checkpoint(TRUNCATE)")


THINNED_POINTS = 32


def thin_series(series: Sequence[Sample], points: int = THINNED_POINTS) -> tuple[Sample, ...]:
    """At most `points` (3 or more) of the samples, in order: of each of several equal parts the first one and the
    one of most memory, and the last of all.
    """
    if len(series) <= points:
        return tuple(series)
    parts = (points - 1) // 2
    edges = [len(series) * part // parts for part in range(parts + 1)]
    kept = {place for start, end in pairwise(edges) for place in _of_part(series, start, end)}
    return tuple(series[place] for place in sorted(kept | {len(series) - 1}))


def _of_part(series: Sequence[Sample], start: int, end: int) -> Iterator[int]:
    yield start
    yield max(range(start, end), key=lambda place: series[place].memory_bytes or 0)

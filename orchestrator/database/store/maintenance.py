"""Keep a database small: sum up days, delete old runs, thin time series, return free space."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from orchestrator.database.files.connect import outside_transaction, pragma, write_connection
from orchestrator.database.rollups import daily
from orchestrator.database.rows import projects
from orchestrator.database.rows.encoding import pack_samples, unpack_samples
from orchestrator.database.schema.tables import attempts, daily_usage, runs, samples, tests
from orchestrator.figures import equal_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from orchestrator.model.usage import Sample

MINIMUM_RECORDS_DAYS = 7


class RecordsRetention(Protocol):
    """The fields of the configuration's `Retention` that concern the database."""

    @property
    def records_days(self) -> int:
        """The number of days for which runs and everything that belongs to them are kept."""

    @property
    def rollups_days(self) -> int:
        """The number of days for which the sums of days are kept."""

    @property
    def samples_days(self) -> int:
        """The number of days for which time series are kept."""

    @property
    def samples_full_days(self) -> int:
        """The number of days for which time series are kept with all points."""


def prune(engine: sa.Engine, retention: RecordsRetention, *, thin_at_most: int | None) -> int:
    """Delete what retention does not keep, see `Database.prune`; return the number of deleted runs."""
    cutoff = _before(max(retention.records_days, MINIMUM_RECORDS_DAYS))
    expired = _ids(engine, runs.c.started_at < daily.midnight(cutoff), runs.c.status != "running")
    if expired:
        sum_up(engine)  # while the attempts are still there
    for run_id in expired:  # one transaction each, so that the write-ahead log stays small and others can write
        with write_connection(engine) as connection, connection.begin():
            connection.execute(runs.delete().where(runs.c.id == run_id))
    deleted_days = _delete_days(engine, _before(max(retention.rollups_days, MINIMUM_RECORDS_DAYS)))
    if expired or deleted_days:
        _delete_unused_tests(engine)
    thin_samples(engine, retention, at_most=thin_at_most)
    if engine.dialect.name == "sqlite":
        pragma(engine, "incremental_vacuum")
    return len(expired)


def sum_up(engine: sa.Engine, *, at_most: int | None = None) -> int:
    """Sum up the stale days that are over, oldest first, each in its own transaction. `at_most`: the largest
    number of days, or None for all. Return how many were summed up.
    """
    with engine.connect() as connection, connection.begin():
        days = daily.due_days(connection)[:at_most]
    for day in days:
        with write_connection(engine) as connection, connection.begin():
            daily.sum_up_day(connection, day)
    return len(days)


def thin_samples(engine: sa.Engine, retention: RecordsRetention, *, at_most: int | None) -> None:
    """Delete time series after `samples_days`, and thin them after `samples_full_days`. `at_most`: the largest
    number of runs for each, or None for all.
    """
    gone = runs.c.started_at < daily.midnight(_before(retention.samples_days))
    for run_id in _ids(engine, gone, runs.c.samples_kept != "none", runs.c.status != "running")[:at_most]:
        with write_connection(engine) as connection, connection.begin():
            connection.execute(samples.delete().where(samples.c.attempt_id.in_(_attempts_of(run_id))))
            _set_samples_kept(connection, run_id, "none")
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
    _set_samples_kept(connection, run_id, "thinned")


def _attempts_of(run_id: str) -> sa.Select[tuple[str]]:
    return sa.select(attempts.c.id).where(attempts.c.run_id == run_id)


def _set_samples_kept(connection: sa.Connection, run_id: str, kept: str) -> None:
    connection.execute(runs.update().where(runs.c.id == run_id).values(samples_kept=kept))


def _before(days: int) -> date:
    return daily.today() - timedelta(days=days)


def _ids(engine: sa.Engine, *where: sa.ColumnElement[bool]) -> list[str]:
    with engine.connect() as connection, connection.begin():
        found = connection.execute(sa.select(runs.c.id).where(*where).order_by(runs.c.started_at))
        return list(found.scalars())


def _delete_days(engine: sa.Engine, cutoff: date) -> int:
    with write_connection(engine) as connection, connection.begin():
        old = connection.execute(daily_usage.delete().where(daily_usage.c.day < cutoff.isoformat()))
        return old.rowcount


def _delete_unused_tests(engine: sa.Engine) -> None:
    ran = sa.exists().where(attempts.c.test_id == tests.c.id)
    summed = sa.exists().where(daily_usage.c.test_id == tests.c.id)
    with write_connection(engine) as connection, connection.begin():
        connection.execute(tests.delete().where(~ran, ~summed))
        projects.delete_unused(connection)


def vacuum(engine: sa.Engine) -> None:
    """Return all free space to the file system, and update the statistics of the query planner."""
    for statement in ("VACUUM", "ANALYZE"):
        outside_transaction(engine, statement)
    if engine.dialect.name == "sqlite":
        pragma(engine, "wal_checkpoint(TRUNCATE)")


THINNED_POINTS = 32


def thin_series(series: Sequence[Sample], points: int = THINNED_POINTS) -> tuple[Sample, ...]:
    """Return at most `points` (3 or more) of the samples, in order: from each of several equal parts the first
    sample and the one with the most memory, and the last sample of all.
    """
    if len(series) <= points:
        return tuple(series)
    parts = equal_parts(len(series), (points - 1) // 2)
    kept = {place for part in parts for place in _first_and_highest(series, part.start, part.stop)}
    return tuple(series[place] for place in sorted(kept | {len(series) - 1}))


def _first_and_highest(series: Sequence[Sample], start: int, end: int) -> Iterator[int]:
    yield start
    yield max(range(start, end), key=lambda place: series[place].memory_bytes or 0)

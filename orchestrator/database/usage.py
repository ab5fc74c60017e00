"""What tests use over a window: count, maximum, mean, percentiles, trend, history of each resource.

Reads one test after the other: the index of figures has each test's attempts side by side and in order of
time, so a million attempts are neither sorted by the database nor held in memory.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orchestrator.database.resources import EXPRESSIONS, window
from orchestrator.database.schema import attempts, tests
from orchestrator.database.statistics import Spread, history, percentile, spread
from orchestrator.model import TestId
from orchestrator.model_reports import HEADLINES, Resource, UsageRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.database.store import Database

    Rows = Sequence[tuple[float | None, ...]]


def usage_report(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    resources: Sequence[Resource] = HEADLINES,
) -> tuple[UsageRow, ...]:
    """Per test and resource, within [since, until), ordered by test. Trends need `since`: the window before
    is as long as this one and ends where it begins.
    """
    names = sa.select(tests.c.id, tests.c.path, tests.c.case_name)
    with db.reading() as connection:
        reader = UsageReader(connection, since=since, until=until, resources=resources)
        found = [
            row
            for key, path, case in connection.execute(names).all()
            for row in reader.rows(key, TestId(path=path, case=case))
        ]
    return tuple(sorted(found, key=lambda row: str(row.test_id)))


class UsageReader:
    """Answers for one test after the other, by the same two statements."""

    def __init__(
        self,
        connection: sa.Connection,
        *,
        since: datetime | None,
        until: datetime | None,
        resources: Sequence[Resource],
    ) -> None:
        figures = [EXPRESSIONS[resource] for resource in resources]
        here = attempts.c.test_id == sa.bindparam("test_id")
        self._connection = connection
        self._resources = tuple(resources)
        self._now = sa.select(*figures).where(here, window(since, until)).order_by(attempts.c.started_at)
        self._before: sa.Select[Any] | None = None
        if since is not None:
            length = (until or datetime.now(tz=UTC)) - since
            self._before = sa.select(*figures).where(here, window(since - length, since))

    def rows(self, key: str, test: TestId) -> Iterator[UsageRow]:
        """One row for each resource that was measured at least once."""
        found = self._read(self._now, key)
        if not found:
            return
        before = _columns(self._read(self._before, key) if self._before is not None else [], self._resources)
        for resource, values, earlier in zip(
            self._resources, _columns(found, self._resources), before, strict=True
        ):
            if values:
                yield _row(test, resource, spread(values), values, earlier)

    def _read(self, query: sa.Select[Any], key: str) -> Rows:
        """Rows as the driver makes them: SQLAlchemy's own cost as much again, and there may be a million."""
        result = self._connection.execute(query, {"test_id": key})
        try:
            rows: Rows = result.cursor.fetchall() if result.cursor is not None else []
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise DBAPIError(str(query), {"test_id": key}, error) from error
        result.close()
        return rows


def _columns(rows: Rows, resources: Sequence[Resource]) -> list[Sequence[float]]:
    """What was measured of each resource."""
    if not rows:
        return [[] for _ in resources]
    return [_measured(column) for column in zip(*rows, strict=True)]


def _measured(column: Sequence[float | None]) -> Sequence[float]:
    # Mostly nothing is missing, and a search for None takes a quarter of the time that a copy takes.
    return [value for value in column if value is not None] if None in column else cast("Sequence[float]", column)


def _row(
    test: TestId, resource: Resource, now: Spread, values: Sequence[float], earlier: Sequence[float]
) -> UsageRow:
    return UsageRow(
        test_id=test,
        resource=resource.key,
        unit=resource.unit,
        count=now.count,
        maximum=now.maximum,
        mean=now.mean,
        p50=now.p50,
        p95=now.p95,
        p99=now.p99,
        before_count=len(earlier),
        before_p50=percentile(sorted(earlier), 0.5) if earlier else None,
        history=history(values),
    )

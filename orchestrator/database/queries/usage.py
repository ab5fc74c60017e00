"""Report what tests used over a window: count, maximum, mean, percentiles, trend and history of each resource.

Tests are read one after the other: the index of figures holds each test's attempts side by side and in order of
time, as `daily_usage` holds its days. So a million attempts are neither sorted by the database nor held in memory.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups.window_parts import WindowPart, split_window
from orchestrator.database.rollups.window_stats import (
    AttemptValues,
    DailySums,
    window_distribution,
    window_history,
)
from orchestrator.database.rows.mapping import names_of_tests
from orchestrator.database.rows.raw_rows import RawQuery
from orchestrator.database.schema.resource_columns import DAILY_NAMES, EXPRESSIONS, window
from orchestrator.database.schema.tables import attempts, daily_usage
from orchestrator.model.resources import DEFAULT_RESOURCES, Resource
from orchestrator.model.stored import UsageRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.database.rollups.window_stats import Part
    from orchestrator.database.store.store import Database
    from orchestrator.model.tests import TestId

    PartQuery = tuple[WindowPart, RawQuery]


def usage_report(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    resources: Sequence[Resource] = DEFAULT_RESOURCES,
) -> tuple[UsageRow, ...]:
    """Return one row for each test and resource within [since, until), ordered by test. Trends compare with the
    window of the same length before; they need `since`.
    """
    with db.reading() as connection:
        reader = UsageReader(connection, since=since, until=until, resources=resources)
        tests = _tests_by_name(db, connection)
        return tuple(row for test, keys in tests.items() for row in reader.rows_of_test(test, keys))


def top_usage(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    resources: Sequence[Resource] = DEFAULT_RESOURCES,
    sort: str = "test",
    limit: int,
) -> tuple[tuple[UsageRow, ...], int]:
    """Return the rows of the first `limit` tests of `usage_report`, and the number of tests left out. `sort`:
    `test` for the order of names, or a figure of the first resource (`runs`, `maximum`, …, `trend`), the largest
    first and tests without it last.
    """
    with db.reading() as connection:
        tests = _tests_by_name(db, connection)
        reader = UsageReader(connection, since=since, until=until, resources=resources)
        known: Mapping[TestId, Sequence[UsageRow]] = {}
        if sort != "test":
            ranking = UsageReader(connection, since=since, until=until, resources=resources[:1])
            ranked = {test: ranking.rows_of_test(test, keys) for test, keys in tests.items()}
            tests = dict(sorted(tests.items(), key=lambda item: _sort_key(ranked[item[0]], sort)))
            known = ranked if len(resources) == 1 else {}
        rows: list[UsageRow] = []
        shown = left_out = 0
        for test, keys in tests.items():
            if shown == limit:
                left_out += any(map(reader.has_rows, keys))
            elif found := known[test] if test in known else reader.rows_of_test(test, keys):
                rows += found
                shown += 1
    return tuple(rows), left_out


def _tests_by_name(db: Database, connection: sa.Connection) -> Mapping[TestId, Sequence[str]]:
    """Return all tests in order of their names, with their keys. Where all projects are reported, several tests
    may have the same name.
    """
    found: dict[TestId, list[str]] = defaultdict(list)
    for key, test in names_of_tests(connection, db.scope(connection)).items():
        found[test].append(key)
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def _sort_key(rows: Sequence[UsageRow], sort: str) -> float:
    value: float | None = getattr(rows[0], "count" if sort == "runs" else sort) if rows else None
    return float("inf") if value is None else -value


class UsageReader:
    """Reads the figures of one test after the other, with statements that are compiled once."""

    def __init__(
        self,
        connection: sa.Connection,
        *,
        since: datetime | None,
        until: datetime | None,
        resources: Sequence[Resource],
    ) -> None:
        self._connection = connection
        self._resources = tuple(resources)
        self._queries = self._compile(since, until)
        self._earlier_queries: list[PartQuery] = []
        """Read the window of the same length before, for trends."""
        if since is not None:
            length = (until or datetime.now(tz=UTC)) - since
            self._earlier_queries = self._compile(since - length, since)
        self._existence_queries: list[RawQuery] = []

    def rows_of_test(self, test: TestId, keys: Sequence[str]) -> list[UsageRow]:
        """Return the rows of a test with one or more keys."""
        return [row for key in keys for row in self.rows(key, test)]

    def rows(self, key: str, test: TestId) -> Iterator[UsageRow]:
        """Yield one row for each resource that was measured at least once."""
        found = self._read(self._queries, key)
        if not any(found):
            return
        earlier = self._read(self._earlier_queries, key)
        for resource, parts, earlier_parts in zip(self._resources, found, earlier, strict=True):
            if parts:
                yield _row(test, resource, parts, earlier_parts)

    def has_rows(self, key: str) -> bool:
        """Return True if `rows` would yield any, without reading all figures."""
        if not self._existence_queries:
            self._existence_queries = [
                RawQuery(self._connection, self._existence(part)) for part, _ in self._queries
            ]
        return any(query.rows(test_id=key) for query in self._existence_queries)

    def _existence(self, part: WindowPart) -> sa.Select[Any]:
        """Build the query for one row with any measured figure. It reads sums only, because sketches are large."""
        figures: list[sa.ColumnElement[Any]]
        if part.by_day:
            figures = [daily_usage.c[f"{DAILY_NAMES[resource]}_sum"] for resource in self._resources]
        else:
            figures = [EXPRESSIONS[resource] for resource in self._resources]
        measured = sa.or_(*(figure.is_not(None) for figure in figures))
        return self._query(part).with_only_columns(sa.literal(1)).where(measured).order_by(None).limit(1)

    def _compile(self, since: datetime | None, until: datetime | None) -> list[PartQuery]:
        parts = split_window(self._connection, since, until)
        return [(part, RawQuery(self._connection, self._query(part))) for part in parts]

    def _query(self, part: WindowPart) -> sa.Select[Any]:
        return self._by_day(part) if part.by_day else self._by_attempt(part)

    def _by_attempt(self, part: WindowPart) -> sa.Select[Any]:
        figures = [EXPRESSIONS[resource] for resource in self._resources]
        this_test = attempts.c.test_id == sa.bindparam("test_id")
        return sa.select(*figures).where(this_test, window(part.since, part.until)).order_by(attempts.c.started_at)

    def _by_day(self, part: WindowPart) -> sa.Select[Any]:
        columns = daily_usage.c
        names = [DAILY_NAMES[resource] for resource in self._resources]
        figures = [columns[f"{name}_{kind}"] for name in names for kind in ("sum", "max", "sketch")]
        this_test = columns.test_id == sa.bindparam("test_id")
        return sa.select(*figures).where(this_test, part.holds(columns.day)).order_by(columns.day)

    def _read(self, queries: Sequence[PartQuery], key: str) -> list[list[Part]]:
        """Return, for each resource, the parts of the window in which it was measured."""
        found: list[list[Part]] = [[] for _ in self._resources]
        for window_part, query in queries:
            columns = list(zip(*query.rows(test_id=key), strict=True))
            if not columns:
                continue
            for index, parts in enumerate(found):
                part = _figure_part(window_part, columns, index)
                if part is not None:
                    parts.append(part)
        return found


def _figure_part(part: WindowPart, columns: Sequence[tuple[Any, ...]], index: int) -> Part | None:
    """Return the figures of the resource with this index, from the columns that were read for a part of the
    window.
    """
    if part.by_day:
        return DailySums.of(*columns[3 * index : 3 * index + 3])
    return AttemptValues.of(columns[index], days=part.days)


def _row(test: TestId, resource: Resource, parts: Sequence[Part], earlier_parts: Sequence[Part]) -> UsageRow:
    figures = window_distribution(parts)
    earlier = window_distribution(earlier_parts) if earlier_parts else None
    return UsageRow(
        test_id=test,
        resource=resource.key,
        unit=resource.unit,
        count=figures.count,
        maximum=figures.maximum,
        mean=figures.mean,
        p50=figures.p50,
        p95=figures.p95,
        p99=figures.p99,
        before_count=0 if earlier is None else earlier.count,
        before_p50=None if earlier is None else earlier.p50,
        history=window_history(parts),
    )

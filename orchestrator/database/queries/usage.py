"""What tests use over a window: count, maximum, mean, percentiles, trend, history of each resource.

Reads one test after the other: the index of figures has each test's attempts side by side and in order of
time, as `daily_usage` has its days, so a million attempts are neither sorted by the database nor held in memory.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rollups.window_parts import WindowPart, by_months, split_window
from orchestrator.database.rollups.window_stats import (
    AttemptValues,
    DailySums,
    median,
    merge_adjacent,
    window_distribution,
    window_history,
)
from orchestrator.database.rows.mapping import names_of_tests
from orchestrator.database.rows.raw_rows import RawQuery
from orchestrator.database.schema.resource_columns import DAILY_NAMES, EXPRESSIONS, window
from orchestrator.database.schema.tables import attempts, daily_usage, monthly_usage
from orchestrator.model.stored import HEADLINES, Resource, UsageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.database.rollups.window_stats import Part
    from orchestrator.database.store.store import Database
    from orchestrator.model.tests import TestId

    Query = tuple[WindowPart, RawQuery]


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
    with db.reading() as connection:
        reader = UsageReader(connection, since=since, until=until, resources=resources)
        return tuple(chain.from_iterable(reader.of(test, keys) for test, keys in _named(db, connection).items()))


def first_usage(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    resources: Sequence[Resource] = HEADLINES,
    sort: str = "test",
    limit: int,
    later: Callable[[], Mapping[TestId, Sequence[UsageRow]] | None] = lambda: None,
) -> tuple[tuple[UsageRow, ...], int]:
    """The rows of the first `limit` tests of `usage_report`, ordered by a figure of the first resource (`runs`,
    `maximum`, …, `trend`; largest first, a test without it last) or by name (`test`); and how many tests are left
    out. Of those only what their place takes is read. `later`: asks another process for its `later_usage`, once
    the other half is done.
    """
    with db.reading() as connection:
        named = _named(db, connection)
        order = _Order(connection, named, since=since, until=until, resources=resources, sort=sort)
        known = {test: order.rows(test) for test in order.halves(limit)[0]}
        known.update(later() or {})
        shown: list[UsageRow] = []
        taken = more = 0
        for test, keys in order.named.items():
            if taken == limit:
                more += any(map(order.reader.has_any, keys))
            elif rows := known[test] if test in known else order.rows(test):
                shown += rows
                taken += 1
    return tuple(shown), more


def later_usage(
    db: Database,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    resources: Sequence[Resource] = HEADLINES,
    sort: str = "test",
    limit: int,
) -> Mapping[TestId, Sequence[UsageRow]]:
    """Of what `first_usage` reads, the latter half: of each test its rows."""
    with db.reading() as connection:
        named = _named(db, connection)
        needed = sort if limit < len(named) else "test"  # all are shown: whichever half will do
        order = _Order(connection, named, since=since, until=until, resources=resources, sort=needed)
        return {test: order.rows(test) for test in order.halves(limit)[1]}


class _Order:
    """Tests in the order in which they are shown."""

    def __init__(
        self,
        connection: sa.Connection,
        named: Mapping[TestId, Sequence[str]],
        *,
        since: datetime | None,
        until: datetime | None,
        resources: Sequence[Resource],
        sort: str,
    ) -> None:
        """`named`: all tests by name, with their keys."""
        self.reader = UsageReader(connection, since=since, until=until, resources=resources)
        self.named = self._by_name = named
        self._whole: Mapping[TestId, Sequence[UsageRow]] = {}
        """Rows that putting them in order took."""
        if sort != "test":
            ranking = UsageReader(connection, since=since, until=until, resources=resources[:1])
            ranked = {test: ranking.of(test, keys) for test, keys in self.named.items()}
            self.named = dict(sorted(self.named.items(), key=lambda item: _rank(ranked[item[0]], sort)))
            self._whole = ranked if len(resources) == 1 else {}

    def rows(self, test: TestId) -> Sequence[UsageRow]:
        """Of all its keys."""
        return self._whole.get(test) or self.reader.of(test, self.named[test])

    def halves(self, limit: int) -> tuple[Sequence[TestId], Sequence[TestId]]:
        """Of the tests that are shown as far as all have rows; by name where all are, so that both know them."""
        shown = list(islice(self.named if limit < len(self.named) else self._by_name, limit))
        middle = (len(shown) + 1) // 2
        return shown[:middle], shown[middle:]


def _named(db: Database, connection: sa.Connection) -> Mapping[TestId, Sequence[str]]:
    """Tests by name, with their keys: where all projects are asked for, several may have the same name."""
    found: dict[TestId, list[str]] = defaultdict(list)
    for key, test in names_of_tests(connection, db.scope(connection)).items():
        found[test].append(key)
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def _rank(rows: Sequence[UsageRow], sort: str) -> float:
    value: float | None = getattr(rows[0], "count" if sort == "runs" else sort) if rows else None
    return float("inf") if value is None else -value


class UsageReader:
    """Answers for one test after the other, by the same few statements."""

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
        self._now = self._queries(since, until)
        self._there: list[RawQuery] = []
        self._before: list[Query] = []
        if since is not None:
            length = (until or datetime.now(tz=UTC)) - since
            self._before = self._queries(since - length, since)

    def rows(self, key: str, test: TestId) -> Iterator[UsageRow]:
        """One row for each resource that was measured at least once."""
        found = self._read(self._now, key)
        if not any(found):
            return
        before = self._read(self._before, key)
        for resource, now, earlier in zip(self._resources, found, before, strict=True):
            if now:
                yield _row(test, resource, now, earlier)

    def of(self, test: TestId, keys: Sequence[str]) -> list[UsageRow]:
        """The rows of all keys of a test."""
        return [row for key in keys for row in self.rows(key, test)]

    def has_any(self, key: str) -> bool:
        """Whether there are rows, without making them."""
        if not self._there:
            self._there = [RawQuery(self._connection, self._existence(part)) for part, _ in self._now]
        return any(query.rows(test_id=key) for query in self._there)

    def _existence(self, part: WindowPart) -> sa.Select[Any]:
        """Whether anything of the stretch was measured: sums and figures alone, for sketches are large."""
        if part.by_day or part.by_month:
            table = monthly_usage if part.by_month else daily_usage
            figures: list[sa.ColumnElement[Any]] = [
                table.c[f"{DAILY_NAMES[resource]}_sum"] for resource in self._resources
            ]
        else:
            figures = [EXPRESSIONS[resource] for resource in self._resources]
        measured = sa.or_(*(figure.is_not(None) for figure in figures))
        return self._query(part).with_only_columns(sa.literal(1)).where(measured).order_by(None).limit(1)

    def _queries(self, since: datetime | None, until: datetime | None) -> list[Query]:
        parts = by_months(self._connection, split_window(self._connection, since, until))
        return [(part, RawQuery(self._connection, self._query(part))) for part in parts]

    def _query(self, part: WindowPart) -> sa.Select[Any]:
        if part.by_month:
            return self._by_month(part)
        return self._by_day(part) if part.by_day else self._by_attempt(part)

    def _by_attempt(self, part: WindowPart) -> sa.Select[Any]:
        figures = [EXPRESSIONS[resource] for resource in self._resources]
        here = attempts.c.test_id == sa.bindparam("test_id")
        return sa.select(*figures).where(here, window(part.since, part.until)).order_by(attempts.c.started_at)

    def _by_day(self, part: WindowPart) -> sa.Select[Any]:
        columns = daily_usage.c
        names = [DAILY_NAMES[resource] for resource in self._resources]
        figures = [columns[f"{name}_{sum_}"] for name in names for sum_ in ("sum", "max", "sketch")]
        here = columns.test_id == sa.bindparam("test_id")
        return sa.select(*figures).where(here, part.holds(columns.day)).order_by(columns.day)

    def _by_month(self, part: WindowPart) -> sa.Select[Any]:
        assert part.since is not None and part.until is not None  # noqa: S101, PT018 - months have both; for the type checker
        columns = monthly_usage.c
        names = [DAILY_NAMES[resource] for resource in self._resources]
        figures = [columns[f"{name}_{sum_}"] for name in names for sum_ in ("sum", "maxima", "sketch")]
        query = sa.select(*figures).where(columns.test_id == sa.bindparam("test_id")).order_by(columns.month)
        return query.where(
            columns.month >= part.since.date().isoformat()[:7], columns.month < part.until.date().isoformat()[:7]
        )

    def _read(self, queries: Sequence[Query], key: str) -> list[list[Part]]:
        """For each resource, the parts of the window that have something of it."""
        found: list[list[Part]] = [[] for _ in self._resources]
        for stretch, query in queries:
            columns = list(zip(*query.rows(test_id=key), strict=True))
            if not columns:
                continue
            for place, parts in enumerate(found):
                part = _part(stretch, columns, place)
                if part is not None:
                    parts.append(part)
        return [merge_adjacent(parts) if len(parts) > 1 else parts for parts in found]


def _part(stretch: WindowPart, columns: Sequence[tuple[Any, ...]], place: int) -> Part | None:
    """What the columns of a stretch say of the resource at that place."""
    if stretch.by_month:
        return DailySums.of_months(*columns[3 * place : 3 * place + 3])
    if stretch.by_day:
        return DailySums.of(*columns[3 * place : 3 * place + 3])
    return AttemptValues.of(columns[place], days=stretch.days)


def _row(test: TestId, resource: Resource, now: Sequence[Part], earlier: Sequence[Part]) -> UsageRow:
    history = window_history(now)
    found = window_distribution(now, history)
    return UsageRow(
        test_id=test,
        resource=resource.key,
        unit=resource.unit,
        count=found.count,
        maximum=found.maximum,
        mean=found.mean,
        p50=found.p50,
        p95=found.p95,
        p99=found.p99,
        before_count=sum(part.count for part in earlier),
        before_p50=median(earlier),
        history=history,
    )

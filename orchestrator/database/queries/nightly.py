"""The nightly report's question: what each test was at its last within a window, and what came before.

Reads the window and the windows of the same length before it, all attempts of them once; what else is known of a
test comes from the run that decided it last.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.queries.final_attempts import final_attempts_in, runs_within
from orchestrator.database.queries.runs import load_run
from orchestrator.database.rollups.long_windows import is_long, window_sums
from orchestrator.database.rollups.window_parts import EXACT_DAYS
from orchestrator.database.rows.encoding import unpack_columns
from orchestrator.database.rows.mapping import names_of_tests
from orchestrator.database.rows.raw_rows import RawQuery, fetch_raw, in_chunks, parse_timestamp
from orchestrator.database.schema import tables
from orchestrator.database.schema.resource_columns import EXPRESSIONS, tests_of, window
from orchestrator.model.nightly import (
    PAST_RESOURCES,
    PRESENT_RESOURCES,
    AttemptHistory,
    Cost,
    Nightly,
    NightlyTest,
    Series,
)
from orchestrator.model.outcomes import Outcome
from orchestrator.model.violations import ViolationKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from orchestrator.database.rollups.long_windows import WindowSums
    from orchestrator.database.rows.raw_rows import RawRows
    from orchestrator.database.store.store import Database
    from orchestrator.model.resources import Resource
    from orchestrator.model.stored import RunRecord, RunRow
    from orchestrator.model.tests import TestId

    Rows = Mapping[TestId, RawRows]
    """Of judged attempts, oldest first: `_COLUMNS`, then figures."""

HISTORY_WINDOWS = 14
"""How many windows before the one reported on trends go back: two weeks of nights."""
LONG_HISTORY_ATTEMPTS = 50
"""Where those are more than `EXACT_DAYS`, trends rest on so many attempts of each test at most, the newest; so do
a test's medians and course of a window that `is_long` itself. Its highest figures are those of all.
"""

_COLUMNS = ("test_id", "id", "run_id", "outcome", "started_at", "is_final")
_TEST, _ATTEMPT, _RUN, _STARTED = map(_COLUMNS.index, ("test_id", "id", "run_id", "started_at"))
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def nightly(
    db: Database, *, since: datetime | None = None, until: datetime | None = None, orch_version: str
) -> Nightly:
    """What a report of [since, until) says; None: from the beginning, until now.

    Work and memory are those of 15 such windows, not of the whole database; of one that `is_long`, those of its
    newest attempts and of its days' sums.
    """
    made_at = datetime.now(tz=UTC)
    end = until or made_at
    runs = runs_within(db, since, end)
    sums = _sums(db, since, end, PRESENT_RESOURCES)
    now, before = _past(db, since, end, only_newest=sums is not None)
    decided, loaded = final_attempts_in(db, runs, set(now))
    previous = {test: found for test, rows in before.items() if (found := _last_final(rows)) is not None}
    kinds = _violation_kinds(db, list(previous.values()))
    samples = _samples(db, [last.id for _, last in decided.values()])
    tests = tuple(
        NightlyTest(
            test_id=test,
            attempts=attempts,
            last=last,
            samples=samples.get(last.id, Series()),
            now=_course(now.get(test, ()), PRESENT_RESOURCES, sums),
            before=_course(before.get(test, ()), PAST_RESOURCES),
            kinds_before=kinds[previous[test]] if test in previous else frozenset(),
        )
        for test, (attempts, last) in sorted(decided.items(), key=lambda item: str(item[0]))
    )
    return Nightly(
        since=since,
        until=end,
        made_at=made_at,
        orch_version=orch_version,
        runs=runs,
        main=_largest(db, runs, loaded),
        tests=tests,
        began=_began(rows for found in (before, now) for test, rows in found.items() if test in decided),
        gone=_gone(before, set(decided), since, end),
        cost=_cost(db, since, end, sums),
        cost_before=None if since is None else _nonzero(_cost_before(db, since, end)),
    )


def _past(db: Database, since: datetime | None, end: datetime, *, only_newest: bool) -> tuple[Rows, Rows]:
    """Judged attempts by test, oldest first: those of the window, and those of the windows before."""
    with db.reading() as connection:
        project = db.scope(connection)
        names = names_of_tests(connection, project)
        present = _query(since, end, PRESENT_RESOURCES, project)
        if only_newest:
            now = _newest(connection, names, present)
        else:
            now = _by_name(fetch_raw(connection, _in_order(present)), names)
        if since is None:
            return now, {}
        start = since - HISTORY_WINDOWS * (end - since)
        past = _query(start, since, PAST_RESOURCES, project)
        if since - start <= timedelta(days=EXACT_DAYS):
            return now, _by_name(fetch_raw(connection, _in_order(past)), names)
        return now, _newest(connection, names, past)


def _sums(db: Database, since: datetime | None, end: datetime, resources: Sequence[Resource]) -> WindowSums | None:
    """Of a long window; None: its attempts are read."""
    with db.reading() as connection:
        if not is_long(connection, since, end):
            return None
        return window_sums(connection, since, end, resources, project=db.scope(connection))


def _query(
    start: datetime | None, end: datetime, resources: Iterable[Resource], project: str | None
) -> sa.Select[Any]:
    columns = (tables.attempts.c[name] for name in _COLUMNS)
    query = sa.select(*columns, *(EXPRESSIONS[resource] for resource in resources))
    return query.where(window(start, end, project=project))


def _in_order(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.order_by(tables.attempts.c.started_at, tables.attempts.c.id)


def _by_name(rows: RawRows, names: Mapping[str, TestId]) -> Rows:
    """In their order. Where all projects are asked for, tests may have the same name: their attempts are put
    together.
    """
    found: dict[TestId, list[tuple[Any, ...]]] = defaultdict(list)
    by_key = {key: found[test] for key, test in names.items()}
    for row in rows:
        by_key[row[_TEST]].append(row)
    return {test: rows for test, rows in found.items() if rows}


def _newest(connection: sa.Connection, names: Mapping[str, TestId], query: sa.Select[Any]) -> Rows:
    """Of each test the newest attempts, not more than a trend needs: a long history would be most of a report.

    As many as all tests need together, and a fifth more, are read in order of time, half as quickly again as test
    by test; that is left to those that ran less often.
    """
    attempts, enough = tables.attempts, LONG_HISTORY_ATTEMPTS
    query = query.order_by(attempts.c.started_at.desc(), attempts.c.id.desc())
    most = enough * len(names) * 6 // 5
    found: dict[str, list[tuple[Any, ...]]] = {key: [] for key in names}
    latest = fetch_raw(connection, query.limit(most))
    for row in latest:
        if len(found[row[_TEST]]) < enough:
            found[row[_TEST]].append(row)
    if len(latest) == most:  # there may be older ones
        of_one = query.where(attempts.c.test_id == sa.bindparam("test_id")).limit(enough)
        asked = RawQuery(connection, of_one)
        for key in [key for key, rows in found.items() if len(rows) < enough]:
            found[key] = list(asked.rows(test_id=key))
    every = [row for rows in found.values() for row in rows]
    return _by_name(sorted(every, key=itemgetter(_STARTED, _ATTEMPT)), names)


def _course(rows: RawRows, resources: Sequence[Resource], sums: WindowSums | None = None) -> AttemptHistory:
    if not rows:
        return AttemptHistory()
    keys, _, runs, outcomes, _, finals, *figures = zip(*rows, strict=True)
    return AttemptHistory(
        run_ids=runs,
        outcomes=tuple(map(_OUTCOMES.__getitem__, outcomes)),
        finals=finals,
        figures=dict(zip(resources, figures, strict=True)),
        highest=None if sums is None else _highest(sums, set(keys)),
    )


def _highest(sums: WindowSums, keys: Iterable[str]) -> Mapping[Resource, float]:
    """Of a test of these keys: tests of two projects may have the same name."""
    known = [sums.highest.get(key, {}) for key in keys]
    return {
        r: max(some[r] for some in known if r in some) for r in PRESENT_RESOURCES if any(r in s for s in known)
    }


def _began(found: Iterable[RawRows]) -> Mapping[str, datetime]:
    """Run -> when its first attempt began, oldest run first."""
    first: dict[str, Any] = {}
    for rows in found:
        for row in rows:
            run, at = row[_RUN], row[_STARTED]
            if run not in first or at < first[run]:
                first[run] = at
    return {run: parse_timestamp(at) for run, at in sorted(first.items(), key=itemgetter(1))}


def _last_final(rows: RawRows) -> str | None:
    """Id of the last attempt that decided the test."""
    return next((attempt for _, attempt, _, _, _, final, *_ in reversed(rows) if final), None)


def _violation_kinds(db: Database, attempt_ids: Sequence[str]) -> Mapping[str, frozenset[ViolationKind]]:
    violations = tables.violations
    kinds: dict[str, set[ViolationKind]] = defaultdict(set)
    with db.reading() as connection:
        for row in _values(connection, violations.c.attempt_id, attempt_ids, violations.c.kind):
            kinds[row[0]].add(ViolationKind(row[1]))
    return defaultdict(frozenset, {attempt: frozenset(found) for attempt, found in kinds.items()})


def _samples(db: Database, attempt_ids: Sequence[str]) -> Mapping[str, Series]:
    samples = tables.samples
    with db.reading() as connection:
        found = _values(connection, samples.c.attempt_id, attempt_ids, samples.c.series)
        return {row[0]: _series(unpack_columns(row[1])) for row in found}


def _series(columns: Mapping[str, Sequence[Any]]) -> Series:
    at_seconds = columns["at_seconds"]
    unknown = [None] * len(at_seconds)
    drawn = {name: columns.get(name, unknown) for name in ("memory_bytes", "cpu_seconds", "pids")}
    return Series(at_seconds=at_seconds, **drawn)


def _values(
    connection: sa.Connection, key: sa.Column[Any], keys: Sequence[str], value: sa.Column[Any]
) -> Iterable[Any]:
    """(key, value) of the rows with one of these keys."""
    for part in in_chunks(keys):
        yield from connection.execute(sa.select(key, value).where(key.in_(part)))


def _largest(db: Database, runs: Sequence[RunRow], loaded: Mapping[str, RunRecord]) -> RunRecord | None:
    """The run of the most tests, the latest of equal ones; None: none."""
    largest = max(runs, key=lambda run: (run.counts.get("tests", 0), run.started_at), default=None)
    if largest is None:
        return None
    return loaded[largest.id] if largest.id in loaded else load_run(db, largest.id)


def _gone(before: Rows, here: Collection[TestId], since: datetime | None, end: datetime) -> tuple[TestId, ...]:
    """Tests of the window before this one that are not here any more."""
    if since is None:
        return ()
    start = since - (end - since)
    lately = {test for test, rows in before.items() if parse_timestamp(rows[-1][_STARTED]) >= start}
    return tuple(sorted(lately - set(here), key=str))


def _cost(db: Database, since: datetime | None, end: datetime, sums: WindowSums | None) -> Cost:
    """`sums`: of the window's attempts, where it is a long one."""
    attempts, runs = tables.attempts, tables.runs
    within = [attempts.c.started_at < end]
    begun = [runs.c.started_at < end]
    if since is not None:
        within.append(attempts.c.started_at >= since)
        begun.append(runs.c.started_at >= since)
    lengths = sa.select(sa.func.count(), sa.func.sum(runs.c.duration_seconds)).where(*begun)
    with db.reading() as connection:
        project = db.scope(connection)
        if project is not None:
            lengths = lengths.where(runs.c.project_id == project)
            within += tests_of(attempts.c.test_id, project)
        number, wall = connection.execute(lengths).one()
        if sums is None:
            cpu_and_test = sa.func.sum(attempts.c.cpu_seconds), sa.func.sum(attempts.c.test_seconds)
            count, cpu, length = connection.execute(sa.select(sa.func.count(), *cpu_and_test).where(*within)).one()
        else:
            count, cpu, length = sums.attempts, sums.cpu_seconds, sums.test_seconds
    return Cost(runs=number, attempts=count, wall_seconds=wall or 0.0, cpu_seconds=cpu, test_seconds=length or 0.0)


def _cost_before(db: Database, since: datetime, end: datetime) -> Cost:
    """Of the window of the same length before."""
    start = since - (end - since)
    return _cost(db, start, since, _sums(db, start, since, ()))


def _nonzero(cost: Cost) -> Cost | None:
    return cost if cost.attempts else None

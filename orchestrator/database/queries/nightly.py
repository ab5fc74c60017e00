"""Read the data of the nightly report: the last result of each test within a window, and its attempts before.

The attempts of the window and of the windows of the same length before it are read once. Everything else about a
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
    """The judged attempts of each test, oldest first: `_COLUMNS`, then figures."""

HISTORY_WINDOWS = 14
"""The number of earlier windows on which trends are based: two weeks of nights."""
LONG_HISTORY_ATTEMPTS = 50
"""Where the earlier windows exceed `EXACT_DAYS`, trends are based on this many attempts of each test, the newest.
The same holds for a test's medians and history in a window that `is_long` itself. Its highest figures are always
those of all attempts.
"""

_COLUMNS = ("test_id", "id", "run_id", "outcome", "started_at", "is_final")
_TEST, _ATTEMPT, _RUN, _STARTED = map(_COLUMNS.index, ("test_id", "id", "run_id", "started_at"))
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def nightly(
    db: Database, *, since: datetime | None = None, until: datetime | None = None, orch_version: str
) -> Nightly:
    """Return the data of a report of [since, until). None: from the beginning, or until now.

    Time and memory depend on 15 such windows, not on the size of the database; for a window that `is_long`, on its
    newest attempts and its sums of days.
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
    """Return the judged attempts of the window and of the earlier windows, by test and oldest first."""
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
    """Return the sums of a long window, or None for a window whose attempts are read."""
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
    """Group rows by test and keep their order. Where all projects are reported, tests of the same name are put
    together.
    """
    found: dict[TestId, list[tuple[Any, ...]]] = defaultdict(list)
    by_key = {key: found[test] for key, test in names.items()}
    for row in rows:
        by_key[row[_TEST]].append(row)
    return {test: rows for test, rows in found.items() if rows}


def _newest(connection: sa.Connection, names: Mapping[str, TestId], query: sa.Select[Any]) -> Rows:
    """Return the newest attempts of each test, at most as many as a trend needs, because reading a long history
    would take most of the time of a report.

    First the newest attempts of all tests are read in order of time, 1.2 times as many as all tests need together.
    Only tests that ran less often are then read one by one, which takes twice as long for each attempt.
    """
    attempts, enough = tables.attempts, LONG_HISTORY_ATTEMPTS
    query = query.order_by(attempts.c.started_at.desc(), attempts.c.id.desc())
    most = enough * len(names) * 6 // 5
    found: dict[str, list[tuple[Any, ...]]] = {key: [] for key in names}
    latest = fetch_raw(connection, query.limit(most))
    for row in latest:
        if len(found[row[_TEST]]) < enough:
            found[row[_TEST]].append(row)
    if len(latest) == most:  # the database may have older attempts
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
    """Return the highest figures of a test. It has several keys where tests of two projects have the same name."""
    known = [sums.highest.get(key, {}) for key in keys]
    return {
        r: max(some[r] for some in known if r in some) for r in PRESENT_RESOURCES if any(r in s for s in known)
    }


def _began(found: Iterable[RawRows]) -> Mapping[str, datetime]:
    """Return the start of the first attempt of each run, oldest run first."""
    first: dict[str, Any] = {}
    for rows in found:
        for row in rows:
            run, at = row[_RUN], row[_STARTED]
            if run not in first or at < first[run]:
                first[run] = at
    return {run: parse_timestamp(at) for run, at in sorted(first.items(), key=itemgetter(1))}


def _last_final(rows: RawRows) -> str | None:
    """Return the id of the last final attempt, or None."""
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
    """Yield the key and the value of the rows with one of these keys."""
    for part in in_chunks(keys):
        yield from connection.execute(sa.select(key, value).where(key.in_(part)))


def _largest(db: Database, runs: Sequence[RunRow], loaded: Mapping[str, RunRecord]) -> RunRecord | None:
    """Return the run with the most tests, the latest of equal ones, or None if there are no runs."""
    largest = max(runs, key=lambda run: (run.counts.get("tests", 0), run.started_at), default=None)
    if largest is None:
        return None
    return loaded[largest.id] if largest.id in loaded else load_run(db, largest.id)


def _gone(before: Rows, here: Collection[TestId], since: datetime | None, end: datetime) -> tuple[TestId, ...]:
    """Return the tests of the window before this one that are missing in this one."""
    if since is None:
        return ()
    start = since - (end - since)
    lately = {test for test, rows in before.items() if parse_timestamp(rows[-1][_STARTED]) >= start}
    return tuple(sorted(lately - set(here), key=str))


def _cost(db: Database, since: datetime | None, end: datetime, sums: WindowSums | None) -> Cost:
    """Return the cost of a window. `sums`: the sums of its attempts, for a long window."""
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
    """Return the cost of the window of the same length before."""
    start = since - (end - since)
    return _cost(db, start, since, _sums(db, start, since, ()))


def _nonzero(cost: Cost) -> Cost | None:
    return cost if cost.attempts else None

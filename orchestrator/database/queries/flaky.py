"""Find tests that passed and failed, with the circumstances of each of their attempts.

The work is bounded: flaky tests are found with an index alone; of each at most `MAX_ATTEMPTS_OF_TEST` attempts are
read, and of their runs at most `MAX_ATTEMPTS_OF_RUNS` attempts of all tests, the newest first.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows.mapping import names_of_tests
from orchestrator.database.rows.raw_rows import in_chunks
from orchestrator.database.schema.resource_columns import UNJUDGED
from orchestrator.database.schema.tables import NOT_PASSED, attempts, hosts, runs, tests
from orchestrator.model.evidence import Launch
from orchestrator.model.flakiness import (
    MINIMUM_FAILURES,
    MINIMUM_PASSES,
    AttemptContext,
    FlakyTest,
    is_intermittent,
)
from orchestrator.model.outcomes import FAILING, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orchestrator.database.store.store import Database
    from orchestrator.model.tests import TestId

MAX_ATTEMPTS_OF_TEST = 300
"""The number of newest attempts of a test that are read."""
MAX_ATTEMPTS_OF_RUNS = 50_000
"""The number of attempts of all tests that are read to know which tests ran at the same time. It takes about a
second.
"""
_PASSED = Outcome.PASSED.value
_FAILING = frozenset(outcome.value for outcome in FAILING)
_TIMELINE_COLUMNS = ("id", "run_id", "test_id", "started_at", "test_seconds", "slot_position", "container_id")
_COLUMNS = (
    *_TIMELINE_COLUMNS,
    "repetition",
    "attempt",
    "outcome",
    "profile",
    "launch",
    "memory_peak_bytes",
    "limit_memory_bytes",
    "throttled_seconds",
)


def flaky_tests(
    db: Database,
    *,
    since: datetime | None,
    until: datetime | None = None,
    only: TestId | None = None,
) -> tuple[FlakyTest, ...]:
    """Return tests that passed and failed within a repetition of a run, or that changed between passing and
    failing in [since, until), by name. `only`: return this test alone, flaky or not, if it has attempts. Tests
    that ran at the same time are looked for only where a test has enough failures and passes, or for `only`.
    """
    window = _window(since, until)
    with db.reading() as connection:
        known = names_of_tests(connection, db.scope(connection))
        named = {key: str(test) for key, test in known.items()}
        keys = (
            _keys_of_flaky(connection, window)
            if only is None
            else [key for key, test in known.items() if test == only]
        )
        found = {key: own for key in keys if key in named and (own := _newest_attempts(connection, key, window))}
        if only is None:
            found = {key: own for key, own in found.items() if _is_flaky(own)}
        judged = {key for key, own in found.items() if only is not None or _is_enough(own)}
        looked_at = _newest_runs(connection, {row.run_id for key in judged for row in found[key]})
        around = _timelines(connection, looked_at, named)
    result = []
    for key, own in found.items():
        seen = [row for row in own if row.run_id in around] if key in judged else own
        if seen:
            attempts = tuple([_attempt_context(row, around.get(row.run_id), named) for row in seen])
            result.append(FlakyTest(test_id=known[key], attempts=attempts))
    return tuple(sorted(result, key=lambda test: str(test.test_id)))


def always_failing(
    db: Database, *, since: datetime | None, until: datetime | None = None
) -> tuple[tuple[TestId, int], ...]:
    """Return the tests that failed in all of several attempts in [since, until), by name, with the number of
    attempts.
    """
    window = _window(since, until)
    number = sa.func.count().label("number")
    failing = sa.select(attempts.c.test_id, number).where(NOT_PASSED, *window).group_by(attempts.c.test_id)
    passed = sa.select(sa.literal(1)).where(
        attempts.c.test_id == tests.c.id, attempts.c.outcome == _PASSED, *window
    )
    failing = failing.where(~_confirms_failure())
    some = failing.having(number > 1).subquery()
    query = sa.select(some).join(tests, tests.c.id == some.c.test_id).where(~passed.correlate(tests).exists())
    with db.reading() as connection:
        known = names_of_tests(connection, db.scope(connection))
        found = [(known[key], int(times)) for key, times in connection.execute(query) if key in known]
    return tuple(sorted(found, key=lambda one: str(one[0])))


def _window(since: datetime | None, until: datetime | None) -> list[sa.ColumnElement[bool]]:
    conditions = [attempts.c.outcome != outcome for outcome in UNJUDGED]
    if since is not None:
        conditions.append(attempts.c.started_at >= since)
    if until is not None:
        conditions.append(attempts.c.started_at < until)
    return conditions


def _confirms_failure() -> sa.ColumnElement[bool]:
    """Return the condition that an attempt repeats a failure in a fresh slot, to confirm it: see `_once`."""
    earlier = attempts.alias("earlier")
    return (
        sa.select(sa.literal(1))
        .where(
            attempts.c.attempt > 1,
            earlier.c.run_id == attempts.c.run_id,
            earlier.c.test_id == attempts.c.test_id,
            earlier.c.repetition == attempts.c.repetition,
            earlier.c.attempt == attempts.c.attempt - 1,
            earlier.c.outcome.in_([outcome.value for outcome in FAILING]),
            sa.or_(earlier.c.slot_position > 1, earlier.c.launch == Launch.FORKED.value),
        )
        .correlate(attempts)
        .exists()
    )


def _once(own: Sequence[Any]) -> list[Any]:
    """Return a test's attempts without those that only confirm a failure.

    A failure in a reused slot, or of a forked process, is repeated in a fresh slot at once. If that fails too,
    both attempts are one failure; the first one is kept, because it ran like any other attempt.
    """
    unconfirmed = {
        (row.run_id, row.repetition, row.attempt)
        for row in own
        if row.outcome in _FAILING and (row.slot_position > 1 or row.launch == Launch.FORKED)
    }
    return [
        row
        for row in own
        if row.outcome not in _FAILING or (row.run_id, row.repetition, row.attempt - 1) not in unconfirmed
    ]


def _keys_of_flaky(connection: sa.Connection, window: Sequence[sa.ColumnElement[bool]]) -> Sequence[str]:
    """Return the keys of tests that passed and failed in any order. `ix_attempts_not_passed` has the failures,
    which are few; `ix_attempts_figures` has the passes, of which one is enough.
    """
    of_test = sa.select(sa.literal(1)).where(attempts.c.test_id == tests.c.id, *window).correlate(tests)
    query = sa.select(tests.c.id).where(
        of_test.where(NOT_PASSED).exists(), of_test.where(attempts.c.outcome == _PASSED).exists()
    )
    return connection.execute(query).scalars().all()


def _newest_attempts(connection: sa.Connection, key: str, window: Sequence[sa.ColumnElement[bool]]) -> list[Any]:
    """Return a test's newest attempts, oldest first; a failure and its confirmation are one."""
    query = (
        sa.select(*(attempts.c[name] for name in _COLUMNS), hosts.c.machine_id)
        .join(runs, runs.c.id == attempts.c.run_id)
        .join(hosts, hosts.c.id == runs.c.host_id)
        .where(attempts.c.test_id == key, *window)
        .order_by(attempts.c.started_at.desc())
        .limit(MAX_ATTEMPTS_OF_TEST)
    )
    return _once(list(reversed(connection.execute(query).all())))


def _is_flaky(own: Sequence[Any]) -> bool:
    return is_intermittent([((row.run_id, row.repetition), row.outcome != _PASSED) for row in own])


def _is_enough(own: Sequence[Any]) -> bool:
    """Return True if a test has enough passes and failures to look for a cause."""
    passed = sum(1 for row in own if row.outcome == _PASSED)
    return passed >= MINIMUM_PASSES and len(own) - passed >= MINIMUM_FAILURES


def _newest_runs(connection: sa.Connection, wanted: set[str]) -> list[str]:
    """Return the newest of these runs, with at most `MAX_ATTEMPTS_OF_RUNS` attempts together."""
    found: list[Any] = []
    for some in in_chunks(sorted(wanted)):
        query = sa.select(runs.c.id, runs.c.started_at, runs.c.planned_count, runs.c.counts)
        found += connection.execute(query.where(runs.c.id.in_(some))).all()
    newest: list[str] = []
    room = MAX_ATTEMPTS_OF_RUNS
    for row in sorted(found, key=lambda row: row.started_at, reverse=True):
        room -= max(row.planned_count, (row.counts or {}).get("tests", 0))
        if newest and room < 0:
            break
        newest.append(row.id)
    return newest


# ---------------------------------------------------------------- what ran at the same time


class _RunTimeline:
    """All attempts of a run in order of their start, in seconds since the run's first attempt. The values are
    parallel lists, because millions of pairs may have to be compared.
    """

    def __init__(self, rows: Sequence[Any], named: Mapping[str, str]) -> None:
        self.began = min(row.started_at for row in rows)
        ordered = sorted(rows, key=lambda row: row.started_at)
        self._starts = [self.at(row.started_at) for row in ordered]
        self._ends = [start + row.test_seconds for start, row in zip(self._starts, ordered, strict=True)]
        self._names = [named.get(row.test_id, "") for row in ordered]
        self._containers = [row.container_id or row.id for row in ordered]
        self._longest = max(row.test_seconds for row in rows)
        self._sorted_ends = sorted(self._ends)
        self._sum_of_starts = list(itertools.accumulate(self._starts, initial=0.0))
        self._sum_of_ends = list(itertools.accumulate(self._sorted_ends, initial=0.0))
        reused = any(row.slot_position > 1 for row in rows)
        self._places = {(r.container_id, r.slot_position): r.test_id for r in rows} if reused else {}

    def at(self, moment: datetime) -> float:
        """Return the seconds from the run's first attempt to `moment`."""
        if self.began.tzinfo is None and moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        seconds: float = (moment - self.began) / timedelta(seconds=1)
        return seconds

    def others(self, start: float, end: float) -> float:
        """Return the average number of attempts that ran between `start` and `end`, without the attempt that
        filled this time.
        """
        return max((self._seconds_before(end) - self._seconds_before(start)) / (end - start) - 1, 0.0)

    def _seconds_before(self, moment: float) -> float:
        """Return the sum of the durations of all attempts up to `moment`."""
        begun, ended = bisect_left(self._starts, moment), bisect_left(self._sorted_ends, moment)
        begun_seconds: float = begun * moment - self._sum_of_starts[begun]
        ended_seconds: float = ended * moment - self._sum_of_ends[ended]
        return begun_seconds - ended_seconds

    def beside(self, start: float, end: float, container: str) -> frozenset[str]:
        """Return the names of the tests that ran between `start` and `end` in other containers."""
        here = slice(bisect_left(self._starts, start - self._longest), bisect_left(self._starts, end))
        spans = zip(self._names[here], self._ends[here], self._containers[here], strict=True)
        return frozenset([name for name, ended, place in spans if ended > start and place != container])

    def before(self, container: str | None, position: int) -> str | None:
        """Return the key of the test that ran in this container before this position, or None if it is unknown."""
        return None if container is None else self._places.get((container, position - 1))


def _timelines(
    connection: sa.Connection, run_ids: Sequence[str], named: Mapping[str, str]
) -> Mapping[str, _RunTimeline]:
    by_run: dict[str, list[Any]] = defaultdict(list)
    columns = [attempts.c[name] for name in _TIMELINE_COLUMNS if name != "started_at"]
    # SQLite stores no zone; adding one to tens of thousands of times would be slow
    began = sa.type_coerce(attempts.c.started_at, sa.DateTime).label("started_at")
    query = sa.select(began, *columns).where(attempts.c.outcome != Outcome.SKIPPED.value)
    for some in in_chunks(run_ids):
        for row in connection.execute(query.where(attempts.c.run_id.in_(some))):
            by_run[row.run_id].append(row)
    return {run_id: _RunTimeline(rows, named) for run_id, rows in by_run.items()}


def _attempt_context(row: Any, around: _RunTimeline | None, named: Mapping[str, str]) -> AttemptContext:
    length, others, before = row.test_seconds, None, None
    beside: frozenset[str] = frozenset()
    if around is not None:
        start = around.at(row.started_at)
        beside = around.beside(start, start + length, row.container_id or row.id)
        others = around.others(start, start + length) if length > 0 else None
        before = around.before(row.container_id, row.slot_position)
    return AttemptContext(
        run_id=row.run_id,
        repetition=row.repetition,
        started_at=row.started_at,
        outcome=Outcome(row.outcome),
        profile=row.profile,
        host=row.machine_id,
        duration_seconds=length,
        throttled_ratio=None if row.throttled_seconds is None or length <= 0 else row.throttled_seconds / length,
        memory_ratio=_ratio(row.memory_peak_bytes, row.limit_memory_bytes),
        slot_position=row.slot_position,
        forked=row.launch == Launch.FORKED,
        others=others,
        neighbours=beside,
        after=None if before is None else named.get(before),
    )


def _ratio(peak: int | None, limit: int) -> float | None:
    return None if peak is None or not limit else peak / limit

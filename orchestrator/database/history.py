"""What is known of each test from earlier runs, for ordering and admission."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.encode import clean, key_of_test
from orchestrator.database.plain import PlainQuery
from orchestrator.database.schema import attempts, tests
from orchestrator.database.statistics import percentile
from orchestrator.model import History, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.model import TestId

WINDOW = timedelta(days=30)
LAST_PASSES = 20
_LOOK_BACK = 25
"""Newest attempts that are searched for the last 20 passes: bounds the work for a test that mostly fails."""


def _newest(since: datetime) -> sa.Select[Any]:
    return (
        sa.select(
            attempts.c.outcome,
            attempts.c.test_seconds,
            attempts.c.cpu_seconds,
            attempts.c.memory_peak_bytes,
            attempts.c.started_at,
        )
        .where(attempts.c.test_id == sa.bindparam("test_id"), attempts.c.started_at >= since)
        .where(attempts.c.outcome != "infra", attempts.c.outcome != "interrupted")  # they say nothing about it
        .order_by(attempts.c.started_at.desc())
        .limit(_LOOK_BACK)
    )


def history(
    connection: sa.Connection, test_ids: Iterable[TestId], *, project: str | None
) -> Mapping[TestId, History]:
    """p95 over the last 20 passed attempts within 30 days; tests without one are not in the answer."""
    newest = PlainQuery(connection, _newest(datetime.now(tz=UTC) - WINDOW))
    known: dict[TestId, History] = {}
    for test_id, keys in _keys(connection, test_ids, project).items():
        rows = [row for key in keys for row in newest.rows(test_id=key)]
        if len(keys) > 1:
            rows.sort(key=itemgetter(-1), reverse=True)
        found = _summary(rows)
        if found is not None:
            known[test_id] = found
    return known


def _keys(
    connection: sa.Connection, test_ids: Iterable[TestId], project: str | None
) -> Mapping[TestId, Sequence[str]]:
    if project is not None:
        return {test_id: [key_of_test(project, test_id)] for test_id in test_ids}
    stored: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for key, path, case_name in connection.execute(sa.select(tests.c.id, tests.c.path, tests.c.case_name)):
        stored[path, case_name].append(key)
    names = {t: (clean(t.path), None if t.case is None else clean(t.case)) for t in test_ids}
    return {test_id: stored[name] for test_id, name in names.items() if name in stored}


def _summary(newest: Sequence[Any]) -> History | None:
    passed = [row for row in newest if row[0] == Outcome.PASSED.value][:LAST_PASSES]
    if not passed:
        return None
    durations = sorted([test_seconds for _, test_seconds, *_ in passed])
    memory = sorted([peak for *_, peak, _ in passed if peak is not None])
    cpus = sorted([cpu / seconds for _, seconds, cpu, *_ in passed if cpu is not None and seconds > 0])
    return History(
        attempts=len(passed),
        duration_seconds_p95=percentile(durations, 0.95),
        memory_bytes_p95=percentile(memory, 0.95) if memory else None,
        cpus_p95=percentile(cpus, 0.95) if cpus else None,
        last_outcome=Outcome(newest[0][0]),
    )

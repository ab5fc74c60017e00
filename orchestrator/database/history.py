"""What is known of each test from earlier runs, for ordering and admission."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.encode import clean, key_of_test
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

_NEWEST = (
    sa.select(
        attempts.c.outcome,
        attempts.c.test_seconds,
        attempts.c.cpu_seconds,
        attempts.c.memory_peak_bytes,
        sa.type_coerce(attempts.c.started_at, sa.String).label("started_at"),  # for order only: not parsed
    )
    .where(attempts.c.test_id == sa.bindparam("test_id"), attempts.c.started_at >= sa.bindparam("since"))
    .where(attempts.c.outcome.not_in(["infra", "interrupted"]))  # they say nothing about the test
    .order_by(attempts.c.started_at.desc())
    .limit(_LOOK_BACK)
)


def history(
    connection: sa.Connection, test_ids: Iterable[TestId], *, project: str | None
) -> Mapping[TestId, History]:
    """p95 over the last 20 passed attempts within 30 days; tests without one are not in the answer."""
    since = datetime.now(tz=UTC) - WINDOW
    known: dict[TestId, History] = {}
    for test_id, keys in _keys(connection, test_ids, project).items():
        rows = [r for key in keys for r in connection.execute(_NEWEST, {"test_id": key, "since": since})]
        if len(keys) > 1:
            rows.sort(key=lambda row: row.started_at, reverse=True)
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
    passed = [row for row in newest if row.outcome == Outcome.PASSED.value][:LAST_PASSES]
    if not passed:
        return None
    durations = sorted(row.test_seconds for row in passed)
    memory = sorted(row.memory_peak_bytes for row in passed if row.memory_peak_bytes is not None)
    cpus = sorted(
        row.cpu_seconds / row.test_seconds
        for row in passed
        if row.cpu_seconds is not None and row.test_seconds > 0
    )
    return History(
        attempts=len(passed),
        duration_seconds_p95=percentile(durations, 0.95),
        memory_bytes_p95=percentile(memory, 0.95) if memory else None,
        cpus_p95=percentile(cpus, 0.95) if cpus else None,
        last_outcome=Outcome(newest[0].outcome),
    )

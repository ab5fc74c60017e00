"""What is known of each test from earlier runs, for ordering and admission."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows.encoding import clean, key_of_test
from orchestrator.database.rows.raw_rows import RawQuery
from orchestrator.database.schema.tables import attempts, tests
from orchestrator.database.store.glance import LOOK_BACK, SILENT, WINDOW, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.model.tests import History, TestId


def _newest(since: datetime) -> sa.Select[Any]:
    return (
        sa.select(
            attempts.c.outcome,
            attempts.c.test_seconds,
            attempts.c.cpu_seconds,
            attempts.c.memory_peak_bytes,
            attempts.c.limit_memory_bytes,
            attempts.c.started_at,
        )
        .where(attempts.c.test_id == sa.bindparam("test_id"), attempts.c.started_at >= since)
        .where(*(attempts.c.outcome != outcome for outcome in SILENT))
        .order_by(attempts.c.started_at.desc())
        .limit(LOOK_BACK)
    )


def history(
    connection: sa.Connection, test_ids: Iterable[TestId], *, project: str | None
) -> Mapping[TestId, History]:
    """p95 over the last 20 passed attempts within 30 days; tests without one are not in the answer."""
    newest = RawQuery(connection, _newest(datetime.now(tz=UTC) - WINDOW))
    known: dict[TestId, History] = {}
    for test_id, keys in _keys(connection, test_ids, project).items():
        rows = [row for key in keys for row in newest.rows(test_id=key)]
        if len(keys) > 1:
            rows.sort(key=itemgetter(-1), reverse=True)
        found = summary(rows)
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

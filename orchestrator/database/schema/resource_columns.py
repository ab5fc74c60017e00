"""Define each resource as an SQL expression over a row of `attempts`, and the conditions by which attempts
count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.schema.tables import DAILY_FIGURES, attempts, fact_sheets, tests
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

UNJUDGED = (Outcome.INFRA.value, Outcome.INTERRUPTED.value, Outcome.SKIPPED.value)
"""Outcomes that say nothing about what the test itself uses."""

MEMORY: sa.ColumnElement[Any] = sa.case(
    (sa.not_(attempts.c.memory_peak_is_upper_bound), attempts.c.memory_peak_bytes)
)
"""The memory that a test itself needed. It is NULL for an upper bound, which is not comparable with measured
figures.
"""
MEMORY_RATIO = sa.cast(MEMORY, sa.Double) / sa.func.nullif(attempts.c.limit_memory_bytes, 0)
_BOUNDED_PIDS = sa.select(fact_sheets.c.id).where(
    sa.cast(fact_sheets.c.facts, sa.Text).like('%"upper_bounds": [%"pids_peak"%')
)
"""The fact sheets of attempts whose peak of tasks is only an upper bound, because starting the container took
more. They are not ranked. There are a few dozen fact sheets.
"""
EXPRESSIONS: Mapping[Resource, sa.ColumnElement[Any]] = {
    Resource.MEMORY: MEMORY,
    Resource.CPU: attempts.c.cpu_seconds,
    Resource.DURATION: attempts.c.test_seconds,
    Resource.MEMORY_RATIO: MEMORY_RATIO,
    Resource.TIME_RATIO: attempts.c.test_seconds / sa.func.nullif(attempts.c.limit_timeout_seconds, 0),
    Resource.PIDS: sa.case((attempts.c.usage_sheet_id.in_(_BOUNDED_PIDS), sa.null()), else_=attempts.c.pids_peak),
    Resource.THROTTLED: attempts.c.throttled_seconds,
    Resource.ANON: attempts.c.anon_peak_bytes,
    Resource.SHMEM: attempts.c.shmem_peak_bytes,
    Resource.READ: attempts.c.read_bytes,
    Resource.WRITE: attempts.c.write_bytes,
    Resource.OUTPUT: attempts.c.stdout_bytes + attempts.c.stderr_bytes,
}

DAILY_NAMES: Mapping[Resource, str] = dict(zip(EXPRESSIONS, DAILY_FIGURES, strict=True))
"""The beginning of the names of the columns of each resource in `daily_usage`."""


def unindexed(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return an expression with the value of a column that is never NULL, so that no index applies, where SQLite
    would choose the wrong one. It has no bound parameter: PostgreSQL would take two uses for different
    expressions.
    """
    return sa.func.coalesce(column, sa.literal_column("''"))


def window(
    since: datetime | None, until: datetime | None = None, *, project: str | None = None
) -> sa.ColumnElement[bool]:
    """Return the SQL condition for judged attempts that started within [since, until) and belong to the project
    with this id. None: no limit.
    """
    # `NOT IN` would be slower: SQLAlchemy expands it at each execution, and SQLite builds a table for it.
    conditions: list[sa.ColumnElement[bool]] = [attempts.c.outcome != outcome for outcome in UNJUDGED]
    if since is not None:
        conditions.append(attempts.c.started_at >= since)
    if until is not None:
        conditions.append(attempts.c.started_at < until)
    return sa.and_(*conditions, *tests_of(attempts.c.test_id, project))


def tests_of(column: sa.ColumnElement[Any], project: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the SQL conditions that limit a column with keys of tests to those of `project`; an empty list for
    None.
    """
    if project is None:
        return []
    return [column.in_(sa.select(tests.c.id).where(tests.c.project_id == project))]

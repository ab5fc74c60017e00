"""Tables of resource usage over a window: the tests with the highest usage, and the figures of each test."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.model.resources import DEFAULT_RESOURCES, Resource
from orchestrator.reports.tables.columns import (
    CPU,
    DURATION,
    LIMIT,
    MEMORY,
    OUTCOME_IF_WIDE,
    PROFILE,
    RATIO,
    RUN_IF_WIDE,
    SHARED_IF_WIDE,
    TEST,
    as_ratio,
    count,
    in_bytes,
    in_seconds,
    number,
)
from orchestrator.reports.tables.table import Column, Figure, Sparkline, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.stored import OffenderRow, UsageRow
    from orchestrator.model.tests import TestId
    from orchestrator.reports.tables.table import Cell

SPREAD = ("maximum", "mean", "p50", "p95", "p99")
WIDE = (Resource.MEMORY, Resource.CPU, Resource.DURATION)
"""Resources with columns of their own in the table with one row for each test."""

_EMPTY = "no measured attempts in this window"
_HISTORY = Column(key="history", title="history", optional=True, priority=4)
_TREND = Column(key="trend", title="trend", right=True, optional=True, priority=5)


# ---------------------------------------------------------------- offenders


def offenders_table(rows: Sequence[OffenderRow], *, name: str = "offenders") -> Table:
    """Return the table of offenders: tests by their highest figure in the window."""
    own = _own_column(rows[0].by) if rows else ()
    figures = (MEMORY, SHARED_IF_WIDE, LIMIT, RATIO, CPU, DURATION)
    ends = (count("p95", _p95_title(rows), optional=True), count("attempts", optional=True), RUN_IF_WIDE)
    return Table(
        name=name,
        columns=(count("rank", "#"), TEST, PROFILE, OUTCOME_IF_WIDE, *own, _TREND, _HISTORY, *figures, *ends),
        rows=tuple(_offender(row) for row in rows),
        empty=_EMPTY,
    )


def _own_column(by: Resource) -> tuple[Column, ...]:
    """Return the column of a resource that is not among the figures of every offender."""
    return () if by in DEFAULT_RESOURCES else (count(by.key, by.value),)


def _p95_title(rows: Sequence[OffenderRow]) -> str:
    return f"p95 {rows[0].by.value}" if rows else "p95"


def _offender(row: OffenderRow) -> tuple[Cell, ...]:
    own = (Figure(row.value, row.by.unit),) if _own_column(row.by) else ()
    usage = row.usage
    return (
        number(row.rank),
        str(row.test_id),
        row.profile,
        row.outcome.value,
        *own,
        Figure(usage.trend if usage else None, "change"),
        Sparkline(usage.history if usage else ()),
        Figure(row.memory_peak_bytes, "bytes", row.memory_peak_is_upper_bound),
        in_bytes(row.memory_floor_bytes),
        in_bytes(row.limit_memory_bytes),
        as_ratio(row.memory_ratio),
        in_seconds(row.cpu_seconds),
        in_seconds(row.duration_seconds),
        Figure(usage.p95 if usage else None, row.by.unit),
        number(row.attempts),
        row.run_id[:8],
    )


# ---------------------------------------------------------------- usage


def _before(attempts: int) -> Figure:
    """Return the number of attempts of the earlier window, not shown if there are none."""
    return Figure(attempts, "count" if attempts else "none")


def usage_table(rows: Sequence[UsageRow]) -> Table:
    """Return a table with a row for each test and resource."""
    several = len({row.resource for row in rows}) != 1
    kinds = (
        Column(key="resource", title="resource", optional=not several, priority=0 if several else -2),
        Column(key="unit", title="unit", optional=True, priority=-1),
    )
    spread = (
        count("maximum", "max"),
        count("mean", optional=several, priority=3),
        *(count(name) for name in ("p50", "p95", "p99")),
    )
    before = (
        count("before_count", "before", optional=True),
        count("before_p50", "p50 before", optional=True, priority=-1),
    )
    return Table(
        name="usage",
        columns=(TEST, *kinds, count("count", "runs"), *spread, _TREND, *before, _HISTORY),
        rows=tuple(_usage(row) for row in rows),
        empty=_EMPTY,
    )


def _usage(row: UsageRow) -> tuple[Cell, ...]:
    return (
        str(row.test_id),
        row.resource,
        row.unit,
        number(row.count),
        *(Figure(getattr(row, name), row.unit) for name in SPREAD),
        Figure(row.trend, "change"),
        _before(row.before_count),
        Figure(row.before_p50, row.unit if row.before_count else "none"),
        Sparkline(row.history),
    )


def wide_table(rows: Sequence[UsageRow]) -> Table:
    """Return a table with a row for each test: maximum, 95th percentile and trend of memory, CPU and duration."""
    by_test: dict[TestId, dict[str, UsageRow]] = defaultdict(dict)
    for row in rows:
        by_test[row.test_id][row.resource] = row
    return Table(
        name="usage",
        columns=(
            TEST,
            count("runs"),
            count("runs_before", "before", optional=True),
            *(column for resource in WIDE for column in _wide_columns(resource)),
        ),
        rows=tuple(_wide(test, found) for test, found in by_test.items()),
        empty=_EMPTY,
    )


def _wide_columns(resource: Resource) -> tuple[Column, ...]:
    title = {Resource.MEMORY: "memory", Resource.DURATION: "time"}.get(resource, resource.value)
    first = resource is WIDE[0]
    columns = (
        count(f"{resource.key}_maximum", f"max {title}"),
        count(f"{resource.key}_p95", "p95", optional=True, priority=3 if first else 2),
        count(f"{resource.key}_trend", "trend", optional=True, priority=5 if first else 1),
    )
    return (*columns, _HISTORY) if first else columns


def _wide(test: TestId, found: Mapping[str, UsageRow]) -> tuple[Cell, ...]:
    cells: list[Cell] = [
        str(test),
        number(max(row.count for row in found.values())),
        _before(max(row.before_count for row in found.values())),
    ]
    for resource in WIDE:
        row = found.get(resource.key)
        cells += [
            Figure(row.maximum if row else None, resource.unit),
            Figure(row.p95 if row else None, resource.unit),
            Figure(row.trend if row else None, "change"),
        ]
        if resource is WIDE[0]:
            cells.append(Sparkline(row.history if row else ()))
    return tuple(cells)

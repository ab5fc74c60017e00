"""What the database answers, as tables: offenders, usage, runs, attempts, what changed between two runs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from orchestrator.reports.csvout import csv_text
from orchestrator.reports.grid import Column, Figure, Table, text_lines
from orchestrator.reports.jsonrun import to_json
from orchestrator.reports.markdown import table_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from orchestrator.model_reports import AttemptRow, OffenderRow, RunDiff, RunRow, UsageRow
    from orchestrator.reports.grid import Cell

TABLES_SCHEMA_VERSION = 1


class TableFormat(StrEnum):
    """The values of --format for tables."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def render(tables: Table | Sequence[Table], table_format: str, *, columns: int | None = None) -> str:
    """One table, or several below each other, as text that ends with a newline.

    `columns` is the terminal's width, None for a pipe. CSV of several tables: an empty line between them.
    """
    every = [tables] if isinstance(tables, Table) else list(tables)
    match TableFormat(table_format):
        case TableFormat.JSON:
            return to_json({"schema": TABLES_SCHEMA_VERSION, **{t.name: raw_rows(t) for t in every}}) + "\n"
        case TableFormat.CSV:
            return "\r\n".join(map(csv_text, every))
        case TableFormat.MARKDOWN:
            return "\n".join(_titled(table, f"### {table.name}\n\n", every) + table_text(table) for table in every)
        case TableFormat.TABLE:
            return "\n".join(_titled(table, f"{table.name}:\n", every) + _plain(table, columns) for table in every)
        case unreachable:
            assert_never(unreachable)


def _titled(table: Table, title: str, every: Sequence[Table]) -> str:
    return title.replace("_", " ") if len(every) > 1 and table.name else ""


def _plain(table: Table, columns: int | None) -> str:
    return "".join(f"{line}\n" for line in text_lines(table, columns=columns))


def raw_rows(table: Table) -> list[dict[str, str | float | None]]:
    """Rows as objects of column key -> raw value, unrounded; null for what was not measured."""
    return [
        {
            column.key: cell.value if isinstance(cell, Figure) else cell
            for column, cell in zip(table.columns, row, strict=True)
        }
        for row in table.rows
    ]


# ---------------------------------------------------------------- columns and cells

_TEST = Column(key="test", title="test", flexible=True)
_PROFILE = Column(key="profile", title="profile", optional=True)
_OUTCOME = Column(key="outcome", title="outcome")
_OUTCOME_IF_WIDE = Column(key="outcome", title="outcome", optional=True)
_MEMORY = Column(key="memory_peak_bytes", title="memory", right=True)
_LIMIT = Column(key="limit_memory_bytes", title="limit", right=True, optional=True)
_RATIO = Column(key="memory_ratio", title="of limit", right=True)
_CPU = Column(key="cpu_seconds", title="cpu", right=True)
_CPU_IF_WIDE = Column(key="cpu_seconds", title="cpu", right=True, optional=True)
_DURATION = Column(key="duration_seconds", title="duration", right=True)
_RUN = Column(key="run", title="run")
_RUN_IF_WIDE = Column(key="run", title="run", optional=True)


def _count(key: str, title: str | None = None, *, optional: bool = False) -> Column:
    return Column(key=key, title=title or key, right=True, optional=optional)


def _bytes(value: float | None) -> Figure:
    return Figure(value, "bytes")


def _seconds(value: float | None) -> Figure:
    return Figure(value, "seconds")


def _ratio(value: float | None) -> Figure:
    return Figure(value, "ratio")


def _number(value: float | None) -> Figure:
    return Figure(value, "count")


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%MZ")


# ---------------------------------------------------------------- tables


def offenders_table(rows: Sequence[OffenderRow]) -> Table:
    """The worst tests first, each at its worst within the window."""
    columns = (
        _count("rank", "#"),
        _TEST,
        _PROFILE,
        _OUTCOME_IF_WIDE,
        _MEMORY,
        _LIMIT,
        _RATIO,
        _CPU,
        _DURATION,
    )
    return Table(
        name="offenders",
        columns=(*columns, _count("attempts", optional=True), _RUN_IF_WIDE),
        rows=tuple(_offender(row) for row in rows),
        empty="no measured attempts in this window",
    )


def _offender(row: OffenderRow) -> tuple[Cell, ...]:
    return (
        _number(row.rank),
        str(row.test_id),
        row.profile,
        row.outcome.value,
        Figure(row.memory_peak_bytes, "bytes", row.memory_peak_is_upper_bound),
        _bytes(row.limit_memory_bytes),
        _ratio(row.memory_ratio),
        _seconds(row.cpu_seconds),
        _seconds(row.duration_seconds),
        _number(row.attempts),
        row.run_id[:8],
    )


def usage_table(rows: Sequence[UsageRow]) -> Table:
    """What each test used of each resource over a window."""
    figures = ("maximum", "mean", "p50", "p95", "p99")
    columns = (
        _TEST,
        Column(key="resource", title="resource"),
        Column(key="unit", title="unit"),
        _count("count"),
    )
    return Table(
        name="usage",
        columns=(*columns, *map(_count, figures)),
        rows=tuple(
            (
                str(row.test_id),
                row.resource,
                row.unit,
                _number(row.count),
                *(Figure(getattr(row, name), row.unit) for name in figures),
            )
            for row in rows
        ),
        empty="no measured attempts in this window",
    )


def runs_table(rows: Sequence[RunRow]) -> Table:
    """Stored runs."""
    counts = ("tests", "passed", "failed", "flaky", "violations")
    columns = (
        _RUN,
        Column(key="started_at", title="started"),
        Column(key="status", title="status", optional=True),
    )
    return Table(
        name="runs",
        columns=(
            *columns,
            _count("exit_code", "exit"),
            _DURATION,
            *(_count(name, optional=name == "flaky") for name in counts),
            Column(key="engine", title="engine", optional=True),
        ),
        rows=tuple(
            (
                row.short_id,
                _time(row.started_at),
                row.status.value,
                _number(row.exit_code),
                _seconds(row.duration_seconds),
                *(_number(_run_count(row, name)) for name in counts),
                f"{row.engine.name} {row.engine.version}",
            )
            for row in rows
        ),
        empty="no runs recorded yet",
    )


def _run_count(row: RunRow, name: str) -> int | None:
    """`failed` counts every bad end of a test itself, as the summary on the terminal does."""
    if name != "failed":
        return row.counts.get(name)
    found = [row.counts[key] for key in ("failed", "timeout", "oom", "crashed") if key in row.counts]
    return sum(found) if found else None


_STAGES = ("queue", "create", "start", "teardown")
"""Where an attempt's time went besides its test, in the names of Timings."""


def attempts_table(rows: Sequence[AttemptRow]) -> Table:
    """The attempts of one run."""
    columns = (_TEST, _count("attempt", "try"), _PROFILE, _OUTCOME, _DURATION, _MEMORY, _LIMIT, _CPU_IF_WIDE)
    return Table(
        name="attempts",
        columns=(
            *columns,
            _count("violations", optional=True),
            *(_count(f"{name}_seconds", name, optional=True) for name in _STAGES),
            Column(key="message", title="message", flexible=True),
        ),
        rows=tuple(
            (
                str(row.test_id),
                _number(row.attempt),
                row.profile,
                row.outcome.value,
                _seconds(row.timings.test_seconds),
                Figure(row.usage.memory_peak_bytes, "bytes", row.usage.memory_peak_is_upper_bound),
                _bytes(row.limits.memory_bytes),
                _seconds(row.usage.cpu_seconds),
                _number(len(row.violations)),
                *(_seconds(getattr(row.timings, f"{name}_seconds")) for name in _STAGES),
                row.message,
            )
            for row in rows
        ),
        empty="no attempts recorded",
    )


def diff_tables(diff: RunDiff) -> tuple[Table, ...]:
    """What changed between two runs: outcomes, usage, tests that only one of them has."""
    before, after = diff.before.short_id, diff.after.short_id
    outcomes = Table(
        name="outcome_changes",
        columns=(
            _TEST,
            Column(key="before", title=before),
            Column(key="after", title=after),
            Column(key="message", title="message", flexible=True),
        ),
        rows=tuple((str(c.test_id), c.before.value, c.after.value, c.message) for c in diff.outcome_changes),
        empty="no outcome changed",
    )
    return (outcomes, _usage_changes(diff), _only(diff))


def _usage_changes(diff: RunDiff) -> Table:
    return Table(
        name="usage_changes",
        columns=(
            _TEST,
            Column(key="resource", title="resource"),
            Column(key="unit", title="unit"),
            _count("before", diff.before.short_id),
            _count("after", diff.after.short_id),
            _count("ratio"),
        ),
        rows=tuple(
            (
                str(change.test_id),
                change.resource,
                change.unit,
                Figure(change.before, change.unit),
                Figure(change.after, change.unit),
                _ratio(change.ratio),
            )
            for change in diff.usage_changes
        ),
        empty="no figure changed much",
    )


def _only(diff: RunDiff) -> Table:
    one_sided = [(test_id, diff.before) for test_id in diff.only_before]
    one_sided += [(test_id, diff.after) for test_id in diff.only_after]
    return Table(
        name="in_one_run_only",
        columns=(_TEST, _RUN),
        rows=tuple((str(test_id), run.short_id) for test_id, run in one_sided),
        empty="both runs have the same tests",
    )

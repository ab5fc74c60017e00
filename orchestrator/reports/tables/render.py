"""Rendering of tables in each format, and the tables of runs: runs, attempts, changes between two runs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from orchestrator.reports.json_encoding import to_json
from orchestrator.reports.tables.columns import (
    CPU_IF_WIDE,
    DURATION,
    LIMIT,
    MEMORY,
    OUTCOME,
    PROFILE,
    RUN,
    SHARED_IF_WIDE,
    TEST,
    as_ratio,
    count,
    in_bytes,
    in_own_memory,
    in_seconds,
    number,
    time_text,
)
from orchestrator.reports.tables.csv_output import csv_text
from orchestrator.reports.tables.table import (
    Column,
    Figure,
    Sparkline,
    Table,
    raw_cells,
    raw_keys,
    table_text,
    text_lines,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.stored import AttemptRow, RunDiff, RunRow
    from orchestrator.reports.tables.table import Cell

TABLES_SCHEMA_VERSION = 1


class TableFormat(StrEnum):
    """The values of --format for tables."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def render(tables: Table | Sequence[Table], table_format: str, *, columns: int | None = None) -> str:
    """Return one table, or several below each other, as text that ends with a newline.

    `columns`: width of the terminal, None for a pipe. In CSV an empty line separates tables.
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


def raw_rows(table: Table) -> list[dict[str, str | float | list[float] | None]]:
    """Return rows as objects of column key -> raw value, not rounded; null for a figure that was not measured."""
    keys = raw_keys(table)
    return [dict(zip(keys, map(_raw, raw_cells(table, row)), strict=True)) for row in table.rows]


def _raw(cell: Cell) -> str | float | list[float] | None:
    match cell:
        case Figure():
            return cell.value
        case Sparkline():
            return list(cell.values)
        case str():
            return cell


# ---------------------------------------------------------------- tables


def runs_table(rows: Sequence[RunRow]) -> Table:
    """Return the table of stored runs."""
    counts = ("tests", "passed", "failed", "flaky", "violations")
    columns = (
        RUN,
        Column(key="started_at", title="started"),
        Column(key="status", title="status", optional=True),
    )
    return Table(
        name="runs",
        columns=(
            *columns,
            count("exit_code", "exit"),
            DURATION,
            *(count(name, optional=name == "flaky") for name in counts),
            Column(key="engine", title="engine", optional=True),
        ),
        rows=tuple(
            (
                row.short_id,
                time_text(row.started_at),
                row.status.value,
                number(row.exit_code),
                in_seconds(row.duration_seconds),
                *(number(_run_count(row, name)) for name in counts),
                f"{row.engine.name} {row.engine.version}",
            )
            for row in rows
        ),
        empty="no runs recorded yet",
    )


def _run_count(row: RunRow, name: str) -> int | None:
    """Return a count of the run. `failed` includes timeouts, OOMs and crashes, as in the terminal's summary."""
    if name != "failed":
        return row.counts.get(name)
    found = [row.counts[key] for key in ("failed", "timeout", "oom", "crashed") if key in row.counts]
    return sum(found) if found else None


_STAGES = ("queue", "create", "start", "teardown")
"""Stages of an attempt besides the test, by their names in Timings."""


def attempts_table(rows: Sequence[AttemptRow]) -> Table:
    """Return the table of the attempts of one run."""
    memory = (MEMORY, SHARED_IF_WIDE, LIMIT)
    columns = (TEST, count("attempt", "try"), PROFILE, OUTCOME, DURATION, *memory, CPU_IF_WIDE)
    return Table(
        name="attempts",
        columns=(
            *columns,
            count("violations", optional=True),
            *(count(f"{name}_seconds", name, optional=True) for name in _STAGES),
            Column(key="message", title="message", flexible=True),
        ),
        rows=tuple(
            (
                str(row.test_id),
                number(row.attempt),
                row.profile,
                row.outcome.value,
                in_seconds(row.timings.test_seconds),
                in_own_memory(row.usage),
                in_bytes(row.usage.memory_floor_bytes),
                in_bytes(row.limits.memory_bytes),
                in_seconds(row.usage.cpu_seconds),
                number(len(row.violations)),
                *(in_seconds(getattr(row.timings, f"{name}_seconds")) for name in _STAGES),
                row.message,
            )
            for row in rows
        ),
        empty="no attempts recorded",
    )


def diff_tables(diff: RunDiff) -> tuple[Table, ...]:
    """Return the tables of changes between two runs: outcomes, usage, tests that only one of them has."""
    before, after = diff.before.short_id, diff.after.short_id
    outcomes = Table(
        name="outcome_changes",
        columns=(
            TEST,
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
            TEST,
            Column(key="resource", title="resource"),
            Column(key="unit", title="unit"),
            count("before", diff.before.short_id),
            count("after", diff.after.short_id),
            count("ratio"),
        ),
        rows=tuple(
            (
                str(change.test_id),
                change.resource,
                change.unit,
                Figure(change.before, change.unit),
                Figure(change.after, change.unit),
                as_ratio(change.ratio),
            )
            for change in diff.usage_changes
        ),
        empty="no large changes of usage",
    )


def _only(diff: RunDiff) -> Table:
    one_sided = [(test_id, diff.before) for test_id in diff.only_before]
    one_sided += [(test_id, diff.after) for test_id in diff.only_after]
    return Table(
        name="in_one_run_only",
        columns=(TEST, RUN),
        rows=tuple((str(test_id), run.short_id) for test_id, run in one_sided),
        empty="both runs have the same tests",
    )

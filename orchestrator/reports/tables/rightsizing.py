"""Suggested profiles as a table and as one line of totals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.reports.tables.columns import TEST, count, in_bytes, in_seconds, number
from orchestrator.reports.tables.table import Column, Figure, Table
from orchestrator.text import format_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.rightsizing import Suggestion
    from orchestrator.reports.tables.table import Cell


def suggestions_table(rows: Sequence[Suggestion]) -> Table:
    """Return a table with a row for each test. Needs include their margins."""
    return Table(
        name="suggestions",
        columns=(
            TEST,
            Column(key="advice", title="advice"),
            Column(key="profile", title="current"),
            Column(key="suggested", title="suggested"),
            count("need_memory_bytes", "memory"),
            count("need_timeout_seconds", "time"),
            count("need_cpus", "cpus"),
            count("need_pids", "pids", optional=True),
            count("saved_memory_bytes", "memory saved"),
            count("saved_cpus", "cpus saved", optional=True),
            count("saved_timeout_seconds", "timeout saved", optional=True),
            count("runs"),
            count("missing_runs", "missing", optional=True),
            Column(key="reason", title="reason", flexible=True),
        ),
        rows=tuple(_row(row) for row in rows),
        empty="no tests with recorded runs",
    )


def _row(row: Suggestion) -> tuple[Cell, ...]:
    need = row.need
    saves = row.suggested is not None
    return (
        str(row.test_id),
        row.advice.value,
        row.current,
        row.suggested or "",
        in_bytes(need.memory_bytes if need else None),
        in_seconds(need.timeout_seconds if need else None),
        Figure(round(need.cpus, 2) if need and need.cpus is not None else None, "count"),
        number(need.pids if need else None),
        in_bytes(row.saved_memory_bytes) if saves else "",
        number(row.saved_cpus) if saves else "",
        in_seconds(row.saved_timeout_seconds) if saves else "",
        number(row.runs),
        Figure(row.missing_runs, "count" if row.missing_runs else "none"),
        row.reason,
    )


def suggestions_text(rows: Sequence[Suggestion], *, minimum_runs: int) -> str:
    """Return the totals: `14 tests: 3 smaller (saves 1.1G in total), 9 fits, 2 unknown (fewer than 10 runs)`."""
    counts = Counter(row.advice.value for row in rows)
    saved = sum(row.saved_memory_bytes for row in rows if row.advice.value == "smaller")
    notes = {"smaller": f"saves {format_bytes(saved)} in total", "unknown": f"fewer than {minimum_runs} runs"}
    parts = [
        f"{number} {advice}" + (f" ({notes[advice]})" if advice in notes else "")
        for advice, number in counts.items()
    ]
    return f"{plural(len(rows), 'test')}: {', '.join(parts)}"

"""Results of `orch check`: a table, and a sentence for each comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.tables.columns import TEST, count, number
from orchestrator.reports.tables.table import Column, Figure, Table
from orchestrator.text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.regression import GateRow
    from orchestrator.reports.tables.table import Cell


def gates_table(rows: Sequence[GateRow], *, name: str = "gates", empty: str = "no gate is broken") -> Table:
    """Return a table with a row for each comparison. Ratios are growth: 0.15 is 15 % more."""
    return Table(
        name=name,
        columns=(
            Column(key="judgement", title="gate"),
            TEST,
            Column(key="resource", title="resource"),
            count("before", "before"),
            count("now", "now"),
            count("growth", "growth"),
            count("tolerance", "allowed"),
            count("noise_floor", "noise", optional=True),
            count("chance", "by chance", optional=True),
            count("new_runs", "runs"),
            count("old_runs", "old runs", optional=True),
            count("missing_runs", "missing", optional=True),
        ),
        rows=tuple(_row(row) for row in rows),
        empty=empty,
    )


def _row(row: GateRow) -> tuple[Cell, ...]:
    found = row.comparison
    return (
        found.judgement.value,
        str(row.test_id),
        row.resource,
        Figure(found.before, row.unit),
        Figure(found.now, row.unit),
        Figure(found.growth, "change"),
        Figure(row.tolerance, "change"),
        Figure(found.noise_floor, "change"),
        Figure(found.chance, "none"),
        number(found.new_runs),
        number(found.old_runs),
        Figure(found.missing_runs, "count" if found.missing_runs else "none"),
    )


def sentence(row: GateRow) -> str:
    """Return a sentence: `memory grew by +15 %, from 61M to 70M (+10 % is allowed; 5 runs against 50)`."""
    found = row.comparison
    grew = f"{row.resource} grew by {Figure(found.growth, 'change')}"
    before, now = Figure(found.before, row.unit), Figure(found.now, row.unit)
    runs = f"{plural(found.new_runs, 'run')} against {found.old_runs}"
    return f"{grew}, from {before} to {now} ({Figure(row.tolerance, 'change')} is allowed; {runs})"

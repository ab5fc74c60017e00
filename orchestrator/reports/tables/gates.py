"""Results of `orch check`: a table, a sentence for each exceeded gate, and GitHub annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.tables.columns import TEST, count, number
from orchestrator.reports.tables.table import Column, Figure, Table
from orchestrator.text import one_line, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.regression import GateRow
    from orchestrator.reports.tables.table import Cell

MAX_ANNOTATIONS = 10
"""Number of annotations of one level that GitHub shows for a step."""


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


def annotation_lines(broken: Sequence[GateRow], suspected: Sequence[GateRow]) -> list[str]:
    """Return GitHub's workflow commands, largest growth first: an error for each exceeded gate, a warning for each
    suspicion.
    """
    lines: list[str] = []
    for level, rows in (("error", broken), ("warning", suspected)):
        for row in rows[:MAX_ANNOTATIONS]:
            title = f"orch check: {row.resource} {Figure(row.comparison.growth, 'change')}"
            text = f"{row.test_id}: {sentence(row)}"
            lines.append(f"::{level} file={_property(row.test_id.path)},title={_property(title)}::{_data(text)}")
        if len(rows) > MAX_ANNOTATIONS:
            lines.append(f"::{level} title=orch check::+{len(rows) - MAX_ANNOTATIONS} more")
    return lines


def _data(text: str) -> str:
    """Escape a message like GitHub's toolkit."""
    return one_line(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

"""Comparison of a recorded attempt with one that has just run: outcome, figures and their change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.tables.columns import figure_of
from orchestrator.reports.tables.table import Column, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model.results import Attempt
    from orchestrator.model.stored import AttemptRow
    from orchestrator.model.violations import Violation
    from orchestrator.reports.tables.table import Cell

_FIGURES = (
    ("cpu", "cpu_seconds", "seconds"),
    ("cpu user", "cpu_user_seconds", "seconds"),
    ("cpu system", "cpu_system_seconds", "seconds"),
    ("memory peak", "memory_peak_bytes", "bytes"),
    ("anon peak", "anon_peak_bytes", "bytes"),
    ("shmem peak", "shmem_peak_bytes", "bytes"),
    ("pids peak", "pids_peak", "count"),
    ("throttled", "throttled_seconds", "seconds"),
    ("oom kills", "oom_kills", "count"),
    ("read", "read_bytes", "bytes"),
    ("written", "write_bytes", "bytes"),
)


def comparison_table(recorded: AttemptRow, now: Attempt) -> Table:
    """Return a table with a row for each figure that at least one of the attempts has."""
    before, after = recorded.usage, now.evidence.usage
    rows: list[tuple[Cell, ...]] = [
        _words("outcome", recorded.outcome.value, now.outcome.value),
        _figure("exit code", recorded.exit_code, now.exit_code, "count", with_change=False),
        _figure("duration", recorded.timings.test_seconds, now.evidence.timings.test_seconds, "seconds"),
    ]
    for name, field, unit in _FIGURES:
        old, new = figure_of(before, field, unit), figure_of(after, field, unit)
        if old.value is not None or new.value is not None:
            rows.append(_compared(name, old, new))
    output = now.evidence.stdout.total_bytes + now.evidence.stderr.total_bytes
    rows.append(_figure("output", recorded.stdout_bytes + recorded.stderr_bytes, output, "bytes"))
    rows.append(_words("violations", _kinds(recorded.violations), _kinds(now.violations)))
    return Table(
        name="comparison",
        columns=(
            Column(key="figure", title=""),
            Column(key="recorded", title="recorded", right=True),
            Column(key="now", title="now", right=True),
            Column(key="change", title="change", right=True),
        ),
        rows=tuple(rows),
    )


def _words(name: str, recorded: str, now: str) -> tuple[Cell, ...]:
    return (name, recorded, now, "same" if recorded == now else "differs")


def _figure(
    name: str, recorded: float | None, now: float | None, unit: str, *, with_change: bool = True
) -> tuple[Cell, ...]:
    if not with_change:
        return (name, Figure(recorded, unit), Figure(now, unit), "same" if recorded == now else "differs")
    return _compared(name, Figure(recorded, unit), Figure(now, unit))


def _compared(name: str, recorded: Figure, now: Figure) -> tuple[Cell, ...]:
    """Return the row of a figure. If one of the values is a bound, there is no meaningful change."""
    before, after = recorded.value, now.value
    change = after / before - 1 if before and after is not None else 0.0 if before == after == 0 else None
    return (name, recorded, now, Figure(None if recorded.bound or now.bound else change, "change"))


def _kinds(violations: Iterable[Violation]) -> str:
    return ", ".join(sorted({violation.kind.value for violation in violations})) or "none"

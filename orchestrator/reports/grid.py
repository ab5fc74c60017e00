"""A table before it has a format: named columns, raw figures with their unit, and its look on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.reports.text import (
    UNKNOWN,
    cells,
    format_bytes,
    format_duration,
    format_ratio,
    one_line,
    shorten_middle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIN_TEXT_COLUMNS = 20
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Figure:
    """A raw number and its unit; None was not measured."""

    value: float | None
    unit: str
    """bytes, seconds, count or ratio."""

    def __str__(self) -> str:
        if self.value is None:
            return UNKNOWN
        if self.unit == "bytes":
            return format_bytes(self.value)
        if self.unit == "seconds":
            return format_duration(self.value)
        return format_ratio(self.value) if self.unit == "ratio" else f"{self.value:g}"


Cell = str | Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`key` names the raw value, its unit included (`cpu_seconds`); `title` is for people."""

    key: str
    title: str
    right: bool = False
    flexible: bool = False
    """Shortened in the middle where the terminal is narrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of as many cells as there are columns."""

    name: str
    """Key of the rows in JSON."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "nothing found"
    """Said instead of a table without rows."""

    def display(self) -> list[list[str]]:
        """The rows' cells as text for people, one line each."""
        return [[one_line(str(cell)) for cell in row] for row in self.rows]


def text_lines(table: Table, *, columns: int | None = None) -> list[str]:
    """Aligned columns; at most `columns` wide where the flexible ones can give way."""
    if not table.rows:
        return [table.empty]
    rows = [[column.title for column in table.columns], *table.display()]
    widths = [max(cells(row[index]) for row in rows) for index in range(len(table.columns))]
    if columns is not None:
        widths = _narrowed(table.columns, widths, columns)
    return [_joined(table.columns, row, widths) for row in rows]


def _narrowed(columns: Sequence[Column], widths: list[int], limit: int) -> list[int]:
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - limit
    narrowed = list(widths)
    for index, column in enumerate(columns):
        if column.flexible and excess > 0:
            narrowed[index] = max(min(_MIN_TEXT_COLUMNS, widths[index]), widths[index] - excess)
            excess -= widths[index] - narrowed[index]
    return narrowed


def _joined(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    parts: list[str] = []
    for column, text, width in zip(columns, row, widths, strict=True):
        shown = shorten_middle(text, width)
        padding = " " * (width - cells(shown))
        parts.append(padding + shown if column.right else shown + padding)
    return _GAP.join(parts).rstrip()

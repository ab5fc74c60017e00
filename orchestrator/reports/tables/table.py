"""A table before it has a format: named columns, raw figures with their unit, and its look on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.text import (
    UNKNOWN,
    cells,
    format_bytes,
    format_change,
    format_ratio,
    format_seconds,
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
    """bytes, seconds, count or ratio; change: a ratio less one, empty where there is nothing to compare with;
    none: always empty, for people."""
    upper_bound: bool = False
    """The true value may be lower."""
    lower_bound: bool = False
    """The true value may be higher."""

    def __str__(self) -> str:
        if self.unit in ("change", "none"):
            return format_change(self.value) if self.unit == "change" else ""
        if self.value is None:
            return UNKNOWN
        return ("≤" if self.upper_bound else "≥" if self.lower_bound else "") + self._text(self.value)

    @property
    def bound(self) -> str:
        """`<=` or `>=` where the value is only a bound, for programs; else empty."""
        return "" if self.value is None else "<=" if self.upper_bound else ">=" if self.lower_bound else ""

    def _text(self, value: float) -> str:
        if self.unit == "bytes":
            return format_bytes(value)
        if self.unit == "seconds":
            return format_seconds(value)
        return format_ratio(value) if self.unit == "ratio" else f"{value:.10g}"


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The course of a figure, in order of time."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return sparkline(self.values)


Cell = str | Figure | Sparkline


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`key` names the raw value, its unit included (`cpu_seconds`); `title` is for people."""

    key: str
    title: str
    right: bool = False
    flexible: bool = False
    """Shortened in the middle where the terminal is narrow."""
    optional: bool = False
    """Left out where it is empty in all rows, or the terminal is narrower still: the least priority goes first."""
    bounded: bool = False
    """Its figures may be bounds: formats for programs have `KEY_bound` after it, `<=`, `>=` or empty."""
    priority: int = 0
    """Among optional columns; of equal ones the rightmost goes first."""


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


def raw_keys(table: Table) -> list[str]:
    """Keys of the columns for programs, with one for the bound of each that may be one."""
    return [key for c in table.columns for key in ((c.key, f"{c.key}_bound") if c.bounded else (c.key,))]


def raw_cells(table: Table, row: Sequence[Cell]) -> list[Cell]:
    """The cells of a row in the order of `raw_keys`."""
    cells_: list[Cell] = []
    for column, cell in zip(table.columns, row, strict=True):
        cells_.append(cell)
        if column.bounded:
            cells_.append(cell.bound if isinstance(cell, Figure) else "")
    return cells_


def filled_columns(table: Table, display: Sequence[Sequence[str]]) -> list[int]:
    """Indexes of all columns but those that are optional and say nothing in any row."""
    return [i for i, column in enumerate(table.columns) if not column.optional or any(row[i] for row in display)]


def text_lines(table: Table, *, columns: int | None = None) -> list[str]:
    """Aligned columns; at most `columns` wide where flexible and optional ones can give way."""
    if not table.rows:
        return [table.empty]
    rows = [[column.title for column in table.columns], *table.display()]
    widths = [max(cells(row[index]) for row in rows) for index in range(len(table.columns))]
    kept = filled_columns(table, rows[1:])
    if columns is not None:
        kept = _kept(table.columns, widths, kept, columns)
        widths = _narrowed(table.columns, widths, kept, columns)
    return [_joined([(table.columns[i], row[i], widths[i]) for i in kept]) for row in rows]


def _kept(columns: Sequence[Column], widths: Sequence[int], filled: Sequence[int], limit: int) -> list[int]:
    """Indexes of the columns that are shown, of those that have anything in them."""
    least = [min(w, _MIN_TEXT_COLUMNS) if c.flexible else w for c, w in zip(columns, widths, strict=True)]
    kept = list(filled)
    for index in sorted(filled, key=lambda i: (columns[i].priority, -i)):
        if columns[index].optional and _width([least[i] for i in kept]) > limit:
            kept.remove(index)
    return kept


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _narrowed(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int], limit: int) -> list[int]:
    narrowed = list(widths)
    excess = _width([widths[index] for index in kept]) - limit
    for index in kept:
        if columns[index].flexible and excess > 0:
            narrowed[index] = max(min(_MIN_TEXT_COLUMNS, widths[index]), widths[index] - excess)
            excess -= widths[index] - narrowed[index]
    return narrowed


def _joined(row: Sequence[tuple[Column, str, int]]) -> str:
    parts: list[str] = []
    for column, text, width in row:
        shown = shorten_middle(text, width)
        padding = " " * (width - cells(shown))
        parts.append(padding + shown if column.right else shown + padding)
    return _GAP.join(parts).rstrip()


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SPLIT = ("@", "#", "://", "www.")
"""GitHub links these even when they are escaped; an empty comment inside prevents it."""
_SPECIAL = re.compile(r"://|\bwww\.|[\\`*_\[\]|~$&<>@#]", re.IGNORECASE)


def escaped(text: str) -> str:
    """`text` on one line, to be read as it is written."""
    return _SPECIAL.sub(_quote, one_line(text))


def _quote(match: re.Match[str]) -> str:
    found = match.group()
    if found.lower() in _SPLIT:
        return f"{found[0]}<!-- -->{found[1:]}"
    return _ENTITIES.get(found, f"\\{found}")


def table_text(table: Table) -> str:
    """The table with figures for people, numbers right-aligned; one sentence if it is empty."""
    if not table.rows:
        return escaped(table.empty) + "\n"
    display = table.display()
    kept = filled_columns(table, display)
    columns = [table.columns[index] for index in kept]
    lines = [
        [escaped(column.title) for column in columns],
        ["--:" if column.right else ":--" for column in columns],
        *([escaped(row[index]) for index in kept] for row in display),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.,-~+*#"
"""The same heights in ASCII, one column each too."""

_ASCII = str.maketrans({**dict(zip(BLOCKS, _PLAIN, strict=True)), "…": "~", "≤": "<", "≥": ">", "±": "~"})


def sparkline(values: Sequence[float]) -> str:
    """One block a value, on a scale from zero to the largest; values that differ little look alike, as they are.

    Empty for fewer than two values: one says nothing of a course.
    """
    if len(values) < 2:
        return ""
    top = max(values)
    if top <= 0:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[min(int(max(value, 0) / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in values)


def encodable(text: str, encoding: str | None) -> str:
    """`text` as a stream of that encoding can take it: our own signs in ASCII where it lacks them, columns
    kept, and escapes for the rest.
    """
    name = encoding or "utf-8"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(name, "backslashreplace").decode(name)
    return text

"""Tables independent of their format: named columns, raw figures with units, and the layout on a terminal and in
Markdown.
"""

from __future__ import annotations

import re
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
    """A number with its unit; None: not measured."""

    value: float | None
    unit: str
    """`bytes`, `seconds`, `count` or `ratio`; `change`: a relative change, shown as empty if it is None; `none`:
    never shown to people.
    """
    upper_bound: bool = False
    """True if the value is only an upper bound."""
    lower_bound: bool = False
    """True if the value is only a lower bound."""

    def __str__(self) -> str:
        if self.unit in ("change", "none"):
            return format_change(self.value) if self.unit == "change" else ""
        if self.value is None:
            return UNKNOWN
        return ("≤" if self.upper_bound else "≥" if self.lower_bound else "") + self._text(self.value)

    @property
    def bound(self) -> str:
        """The kind of bound for programs: `<=` or `>=`; empty if the value is exact or None."""
        return "" if self.value is None else "<=" if self.upper_bound else ">=" if self.lower_bound else ""

    def _text(self, value: float) -> str:
        if self.unit == "bytes":
            return format_bytes(value)
        if self.unit == "seconds":
            return format_seconds(value)
        return format_ratio(value) if self.unit == "ratio" else f"{value:.10g}"


@dataclass(frozen=True, slots=True)
class Sparkline:
    """Values of a figure in order of time."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return sparkline(self.values)


Cell = str | Figure | Sparkline


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. `key` names the raw value with its unit (`cpu_seconds`), `title` is the head of the column."""

    key: str
    title: str
    right: bool = False
    flexible: bool = False
    """True if cells can be shortened in the middle on a narrow terminal."""
    optional: bool = False
    """True if the column is omitted when it is empty in all rows or the terminal is too narrow. Columns of the
    lowest priority are omitted first.
    """
    bounded: bool = False
    """True if figures can be bounds: formats for programs have a column `KEY_bound` behind it, with `<=`, `>=` or
    nothing.
    """
    priority: int = 0
    """Priority among optional columns; of equal ones the rightmost is omitted first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose rows have a cell for each column."""

    name: str
    """The key of the rows in JSON."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "nothing found"
    """Text that is shown instead of a table without rows."""

    def display(self) -> list[list[str]]:
        """Return the cells as text for people, one line each."""
        return [[one_line(str(cell)) for cell in row] for row in self.rows]


def raw_keys(table: Table) -> list[str]:
    """Return the keys of the columns for programs, with an additional key for each column of bounds."""
    return [key for c in table.columns for key in ((c.key, f"{c.key}_bound") if c.bounded else (c.key,))]


def raw_cells(table: Table, row: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a row in the order of `raw_keys`."""
    cells_: list[Cell] = []
    for column, cell in zip(table.columns, row, strict=True):
        cells_.append(cell)
        if column.bounded:
            cells_.append(cell.bound if isinstance(cell, Figure) else "")
    return cells_


def filled_columns(table: Table, display: Sequence[Sequence[str]]) -> list[int]:
    """Return the indexes of all columns except optional ones that are empty in all rows."""
    return [i for i, column in enumerate(table.columns) if not column.optional or any(row[i] for row in display)]


def text_lines(table: Table, *, columns: int | None = None) -> list[str]:
    """Return the lines of the table with aligned columns. The lines are at most `columns` wide, as far as flexible
    columns can be shortened and optional ones omitted.
    """
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
    """Return the indexes of the columns that fit, out of `filled`, the columns with content."""
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
"""Texts that GitHub makes links of even if they are escaped. An empty comment inside prevents that."""
_SPECIAL = re.compile(r"://|\bwww\.|[\\`*_\[\]|~$&<>@#]", re.IGNORECASE)


def escaped(text: str) -> str:
    """Return `text` on one line, escaped so that Markdown shows it literally."""
    return _SPECIAL.sub(_quote, one_line(text))


def _quote(match: re.Match[str]) -> str:
    found = match.group()
    if found.lower() in _SPLIT:
        return f"{found[0]}<!-- -->{found[1:]}"
    return _ENTITIES.get(found, f"\\{found}")


def table_text(table: Table) -> str:
    """Return the table in Markdown with figures for people, or the sentence for an empty table."""
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
"""Signs for the heights of `BLOCKS` in ASCII, one column each."""

_ASCII = str.maketrans({**dict(zip(BLOCKS, _PLAIN, strict=True)), "…": "~", "≤": "<", "≥": ">", "±": "~"})


def sparkline(values: Sequence[float]) -> str:
    """Return a block for each value, scaled from zero to the largest value, so that small differences look small.

    Empty for fewer than two values, which show no trend.
    """
    if len(values) < 2:
        return ""
    top = max(values)
    if top <= 0:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[min(int(max(value, 0) / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in values)


def encodable(text: str, encoding: str | None) -> str:
    """Return `text` so that a stream of that encoding can write it: orch's own signs become ASCII signs of the
    same width, other characters escapes.
    """
    name = encoding or "utf-8"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(name, "backslashreplace").decode(name)
    return text

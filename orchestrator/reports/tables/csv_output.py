"""CSV (RFC 4180) of a table with raw figures, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from orchestrator.reports.tables.table import Figure, Sparkline, raw_cells, raw_keys
from orchestrator.text import one_line

if TYPE_CHECKING:
    from orchestrator.reports.tables.table import Cell, Table

# Spreadsheets read a cell with such a start as a formula (OWASP, "CSV Injection"); the last four are full-width.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_text(table: Table) -> str:
    """Return a header of column keys, then the rows. A figure that was not measured is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(raw_keys(table))
    writer.writerows([_raw(cell) for cell in raw_cells(table, row)] for row in table.rows)
    return stream.getvalue()


def _raw(cell: Cell) -> str | float:
    if isinstance(cell, Figure):
        return "" if cell.value is None else cell.value
    if isinstance(cell, Sparkline):
        return " ".join(map(repr, cell.values))
    return guarded(cell)


def guarded(text: str) -> str:
    """Return `text` on one line, with a quote in front if a spreadsheet would read it as a formula."""
    # Test the original text too: `one_line` escapes or removes white space in front.
    clean = one_line(text)
    return f"'{clean}" if text.startswith(_FORMULA_STARTS) or clean.startswith(_FORMULA_STARTS) else clean

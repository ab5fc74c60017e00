"""A table as GitHub-flavoured Markdown; nothing in a cell can become markup, a link or a mention."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.reports.grid import filled_columns
from orchestrator.reports.text import one_line

if TYPE_CHECKING:
    from orchestrator.reports.grid import Table

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

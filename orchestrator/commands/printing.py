"""Prints a command's answer on stdout, in the format that was asked for."""

from __future__ import annotations

import re
import shutil
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.reports.grid import Table

_WINDOW = re.compile(r"(\d+)\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def say(text: str = "") -> None:
    """One line, or several, to stdout."""
    print(text)


def show(tables: Table | Sequence[Table], output_format: str) -> None:
    """Tables as table, json, csv or markdown; as wide as the terminal where there is one."""
    from orchestrator.reports.tables import render

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    sys.stdout.write(render(tables, output_format, columns=columns))


def parse_since(text: str | None) -> datetime | None:
    """`24h`, `7d`, `2w` before now, or an ISO date or time (UTC unless it says so). None: from the beginning."""
    if text is None or text == "all":
        return None
    found = _WINDOW.fullmatch(text.strip())
    if found:
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"cannot read the window {text!r}", remedy="write 24h, 7d, 2w, all, or a date such as 2026-11-20"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

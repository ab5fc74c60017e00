"""Print the output of a command, and read the windows of time that its options give."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.reports.tables.table import encodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.reports.tables.table import Table

_WINDOW = re.compile(r"(\d+)\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def say(text: str = "") -> None:
    """Print one or several lines to stdout."""
    write(f"{text}\n")


def write(text: str) -> None:
    """Write text to stdout, with replacements for what its encoding cannot express."""
    sys.stdout.write(encodable(text, sys.stdout.encoding))


def note(text: str) -> None:
    """Print one line to stderr, so that stdout has only the output of the command."""
    print(f"orch: {text}", file=sys.stderr)


def show(tables: Table | Sequence[Table], output_format: str) -> None:
    """Print tables as table, json, csv or markdown. A table is as wide as the terminal if stdout is one."""
    from orchestrator.reports.tables.render import render

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    write(render(tables, output_format, columns=columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time, with texts that describe it."""

    since: datetime | None
    until: datetime | None

    @property
    def text(self) -> str:
        """Return the window for people, in UTC, such as `2026-11-14 09:30 to now UTC (7 days)`."""
        end = "now" if self.until is None else _moment(self.until)
        return f"all until {end}" if self.since is None else f"{_moment(self.since)} to {end} UTC ({self._length})"

    @property
    def before(self) -> str:
        """Return a text for the window of the same length before this one, such as `the 7 days before`."""
        return f"the {self._length} before"

    @property
    def _length(self) -> str:
        seconds = ((self.until or datetime.now(UTC)) - (self.since or datetime.now(UTC))).total_seconds()
        for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * size - 1:
                return f"{seconds / size:.10g} {unit}" if seconds % size == 0 else f"{seconds / size:.0f} {unit}"
        return f"{seconds:.0f} seconds"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def parse_window(since: str | None, until: str | None) -> Window:
    """Return the window between two texts that `parse_since` accepts; without `until` it ends now.

    Raises UsageError if the end is not after the start.
    """
    window = Window(since=parse_since(since), until=None if until is None else parse_since(until))
    if window.since is not None and (window.until or datetime.now(UTC)) <= window.since:
        raise UsageError(
            f"the window that starts at {_moment(window.since)} UTC is empty",
            remedy="its start (--since) must be before its end (--until, or now)",
        )
    return window


def parse_since(text: str | None) -> datetime | None:
    """Return the time that a text means: `24h`, `7d`, `2w` (before now), or an ISO date or time (UTC by default).

    Return None for None and `all`: no limit. Raises UsageError for other texts.
    """
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

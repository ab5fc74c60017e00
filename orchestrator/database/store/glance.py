"""What a database file says of tests' earlier runs, read by Python's own module for SQLite alone.

A run begins with it: SQLAlchemy takes 0.2 s to import, which passes unnoticed while the first container comes up.
`orch plan` needs nothing more.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from orchestrator.database.files.sqlite_file import FileKind, has_log, is_readable_in_place, read_header
from orchestrator.database.rollups.statistics import percentile
from orchestrator.database.rows.encoding import key_of_test
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from orchestrator.model.tests import TestId

WINDOW = timedelta(days=30)
LAST_PASSES = 20
LOOK_BACK = 25
"""Newest attempts that are searched for the last 20 passes: bounds the work for a test that mostly fails."""
SILENT = (Outcome.INFRA.value, Outcome.INTERRUPTED.value)
"""These say nothing about a test."""
_NEWEST = f"""
    SELECT outcome, test_seconds, cpu_seconds, memory_peak_bytes, limit_memory_bytes FROM attempts
    WHERE test_id = ? AND started_at >= ? AND outcome NOT IN {SILENT} ORDER BY started_at DESC LIMIT {LOOK_BACK}
"""  # noqa: S608 - constants
STARTUPS = """
    SELECT create_seconds + start_seconds FROM attempts
    WHERE slot_position = 1 AND start_seconds > 0 ORDER BY started_at DESC LIMIT 200
"""
"""What the newest fresh containers cost. Any database knows this SQL."""
T = TypeVar("T")


def glance_history(path: Path, test_ids: Iterable[TestId], *, project: str) -> Mapping[TestId, History] | None:
    """As `Database.history`. None: see `_glance`."""
    since = (datetime.now(tz=UTC) - WINDOW).strftime("%Y-%m-%d %H:%M:%S.%f")

    def read(connection: sqlite3.Connection) -> Mapping[TestId, History]:
        known: dict[TestId, History] = {}
        for test_id in test_ids:
            rows = connection.execute(_NEWEST, (key_of_test(project, test_id), since)).fetchall()
            if (found := summary(rows)) is not None:
                known[test_id] = found
        return known

    none: Mapping[TestId, History] = {}
    return _glance(path, read, absent=none)


def glance_startups(path: Path) -> Sequence[float] | None:
    """Seconds for `median_startup`. None: see `_glance`."""
    none: Sequence[float] = ()
    return _glance(path, lambda connection: [row[0] for row in connection.execute(STARTUPS)], absent=none)


def median_startup(seconds: Sequence[float]) -> tuple[float, int] | None:
    """Of what `STARTUPS` found, and of how many; None: of none."""
    from statistics import median

    return (median(seconds), len(seconds)) if seconds else None


def _glance(path: Path, read: Callable[[sqlite3.Connection], T], *, absent: T) -> T | None:
    """What `read` finds; `absent` if there is no file. None: the file has to be opened in earnest. It is another
    schema's or not ours, it is damaged, or a log beside it, of a run that goes on or was killed, may hold more.
    """
    header = read_header(path)
    if header.kind is FileKind.ABSENT and not has_log(path, even_empty=True):
        return absent
    if not is_readable_in_place(path, header, even_empty=True):
        return None
    try:
        # immutable: neither locks nor companions are made. Should a run begin to write meanwhile, a page may be
        # torn, which is an error or a figure of before.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            return read(connection)
    except sqlite3.Error:
        return None


def summary(newest: Sequence[Any]) -> History | None:
    """p95 over the last 20 passed attempts of rows (outcome, test_seconds, cpu_seconds, memory_peak_bytes,
    limit_memory_bytes, ...),
    newest first; None: none passed.
    """
    passed = [row for row in newest if row[0] == Outcome.PASSED.value][:LAST_PASSES]
    if not passed:
        return None
    durations = sorted(map(itemgetter(1), passed))
    memory = sorted([row[3] for row in passed if row[3] is not None])
    cpus = sorted([row[2] / row[1] for row in passed if row[2] is not None and row[1] > 0])
    return History(
        attempts=len(passed),
        duration_seconds_p95=percentile(durations, 0.95),
        memory_bytes_p95=percentile(memory, 0.95) if memory else None,
        cpus_p95=percentile(cpus, 0.95) if cpus else None,
        last_outcome=Outcome(newest[0][0]),
        memory_refused_bytes=max([row[4] for row in newest if row[0] == Outcome.OOM.value], default=None),
    )

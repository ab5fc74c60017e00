"""Read what earlier runs tell about tests, for ordering and admission: their history and the cost of a container.

A run asks these questions before its first container. The functions take `fetch`, which executes a statement, so
that the same statements run on Python's own SQLite module, on SQLAlchemy's connection to SQLite and on PostgreSQL.
This module does not import SQLAlchemy, which would take 0.2 s at the start of each run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from operator import itemgetter
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.figures import percentile
from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import History

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.model.tests import TestId

    Fetch = Callable[[str, Sequence[object]], Sequence[tuple[Any, ...]]]
    """Executes a statement with `?` for each parameter, and returns its rows in the driver's types."""

WINDOW = timedelta(days=30)
LAST_PASSES = 20
LOOK_BACK = 25
"""The number of newest attempts in which passes are looked for. It bounds the work for a test that mostly fails.
"""
_NOT_JUDGED = (Outcome.INFRA.value, Outcome.INTERRUPTED.value)
"""Outcomes that say nothing about a test."""
_NEWEST_ATTEMPTS = f"""
    SELECT outcome, test_seconds, cpu_seconds, memory_peak_bytes, limit_memory_bytes, started_at FROM attempts
    WHERE test_id = ? AND started_at >= ? AND outcome NOT IN {_NOT_JUDGED}
    ORDER BY started_at DESC LIMIT {LOOK_BACK}
"""  # noqa: S608 - constants
DOUBTED_ATTEMPTS = 10
"""The number of newest attempts in which a test must have been clean to get a reused container again."""
_UNCLEAN = """
    SELECT test_id, started_at, unclean FROM attempts
    WHERE unclean IS NOT NULL AND started_at >= ? ORDER BY started_at
"""
_NEWEST_CONTAINERS = """
    SELECT create_seconds + start_seconds FROM attempts
    WHERE slot_position = 1 AND start_seconds > 0 ORDER BY started_at DESC LIMIT 200
"""


def read_history(fetch: Fetch, keys: Mapping[TestId, Sequence[str]]) -> Mapping[TestId, History]:
    """Return the history of each test that passed at least once in the last 30 days. `keys`: the keys of each test
    in the database, several where projects have tests of the same name.
    """
    since = datetime.now(tz=UTC) - WINDOW
    unclean = {key: (at, what) for key, at, what in fetch(_UNCLEAN, (since,))}
    known: dict[TestId, History] = {}
    for test_id, keys_of_test in keys.items():
        rows = [row for key in keys_of_test for row in fetch(_NEWEST_ATTEMPTS, (key, since))]
        if len(keys_of_test) > 1:
            rows.sort(key=itemgetter(-1), reverse=True)
        found = _summary(rows, max([unclean[key] for key in keys_of_test if key in unclean], default=None))
        if found is not None:
            known[test_id] = found
    return known


def read_startup_seconds(fetch: Fetch) -> tuple[float, int] | None:
    """Return the median of the time that the newest 200 fresh containers took to create and start, and the number
    of containers; None if there is none.
    """
    seconds = [row[0] for row in fetch(_NEWEST_CONTAINERS, ())]
    return (median(seconds), len(seconds)) if seconds else None


def _summary(newest: Sequence[tuple[Any, ...]], unclean: tuple[Any, str] | None) -> History | None:
    """Return the 95th percentiles of the last 20 passes among rows of `_NEWEST_ATTEMPTS`, newest first; None if
    there is no pass. `unclean`: when the test was unclean last, and why; None: never.
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
        unclean=unclean[1] if unclean is not None and unclean[0] >= _doubted_since(newest) else None,
        memory_refused_bytes=max([row[4] for row in newest if row[0] == Outcome.OOM.value], default=None),
    )


def _doubted_since(newest: Sequence[tuple[Any, ...]]) -> Any:
    """Return the time of the oldest of the newest attempts in which a test must have been clean."""
    return newest[:DOUBTED_ATTEMPTS][-1][-1]

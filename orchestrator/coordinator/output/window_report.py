"""`orch report --html` and `--prometheus`: write a report on a window of the database to a file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.analysis.flakiness import find_causes
from orchestrator.analysis.rightsizing import MINIMUM_RUNS, WINDOW, advice_order, suggest
from orchestrator.coordinator.console import note
from orchestrator.coordinator.database import database_for_report
from orchestrator.coordinator.run_folder import attempt_folder_name
from orchestrator.database.queries.flaky import flaky_tests
from orchestrator.database.queries.nightly import nightly
from orchestrator.database.queries.observations import observed
from orchestrator.errors import UsageError
from orchestrator.files import write_atomically
from orchestrator.model.nightly import HistoryAnalysis, OutputTails
from orchestrator.model.outcomes import SUCCESSFUL
from orchestrator.model.rightsizing import Observations
from orchestrator.reports.tables.flaky import worst_first
from orchestrator.text import format_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.console import Window
    from orchestrator.database.store.store import Database
    from orchestrator.model.nightly import Nightly
    from orchestrator.model.profiles import Profile
    from orchestrator.model.stored import AttemptRow
    from orchestrator.model.tests import TestId

TAIL_BYTES = 8192
"""The number of bytes that are read from the end of each stream. The page shows fewer."""

_MOST_TAILS = 200
"""The largest number of tests whose output is read."""


def write_reports(window: Window, *, config: Config, html: Path | None, prometheus: Path | None) -> None:
    """Write each file atomically. Raises UsageError if a file cannot be written."""
    with database_for_report(config) as db:
        report = nightly(db, since=window.since, until=window.until, orch_version=__version__)
        if html is not None:
            _write_page(html, db, report, config)
    if prometheus is not None:
        from orchestrator.reports.formats.prometheus import prometheus_text

        _write(prometheus, prometheus_text(report), report)


def _write_page(html: Path, db: Database, report: Nightly, config: Config) -> None:
    from orchestrator.reports.html.page import nightly_page

    firsts = {test.test_id: test.attempts[0] for test in report.tests}
    analysis = judged(db, firsts, until=report.until, profiles=config.profiles)
    tails = dict(_tails(report, config.state_dir))
    _write(html, nightly_page(report, tails, analysis=analysis).encode(), report)


def judged(
    db: Database,
    firsts: Mapping[TestId, AttemptRow],
    *,
    until: datetime,
    profiles: Mapping[str, Profile],
) -> HistoryAnalysis:
    """Return the flaky tests with the causes of their failures, and advice on profiles, from 30 days of history.

    `firsts` maps the tests that get advice to the first attempt of their last run.
    """
    since = until - WINDOW
    found = flaky_tests(db, since=since, until=until)
    history = observed(db, since=since)
    advice = []
    for test, first in firsts.items():
        current = _present_profile(first, profiles)
        if current is not None:
            known = history.get(test, Observations())
            advice.append(suggest(test, known, current=current, profiles=profiles.values()))
    return HistoryAnalysis(
        flaky=tuple(worst_first((test, find_causes(test)) for test in found)),
        advice=tuple(sorted(advice, key=advice_order)),
        minimum_runs=MINIMUM_RUNS,
    )


def _present_profile(attempt: AttemptRow, profiles: Mapping[str, Profile]) -> Profile | None:
    """Return the current profile of a test, or None if the configuration no longer has it.

    `attempt` is a first attempt, because a retry may have had the next larger profile. The limits are those of the
    attempt, which include those of a rule, unless they were lowered to fit the host.
    """
    profile = profiles.get(attempt.profile)
    if profile is None or attempt.clamped:
        return profile
    return replace(profile, limits=attempt.limits)


def _write(path: Path, content: bytes, report: Nightly) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}", remedy="name a file in a folder that can be written"
        ) from error
    note(f"{path}: {plural(len(report.tests), 'test')}, {format_bytes(len(content))}")


def _tails(report: Nightly, state_dir: Path) -> Iterator[tuple[str, OutputTails]]:
    """Yield the ends of the output of failed tests, then of tests with violations, if their run folders exist."""
    folders = _run_folders(state_dir)
    failing = [test.last for test in report.tests if test.outcome not in SUCCESSFUL]
    broken = [test.last for test in report.tests if test.outcome in SUCCESSFUL and test.kinds]
    for attempt in (*failing, *broken)[:_MOST_TAILS]:
        folder = folders.get(attempt.run_id[:8])
        if folder is not None:
            place = folder / "tests" / _folder_name(attempt)
            yield attempt.id, OutputTails(stdout=_tail(place / "stdout"), stderr=_tail(place / "stderr"))


def _folder_name(attempt: AttemptRow) -> str:
    return attempt_folder_name(str(attempt.test_id), repetition=attempt.repetition, attempt=attempt.attempt)


def _run_folders(state_dir: Path) -> Mapping[str, Path]:
    """Return the run folders by the first eight digits of the id of their run."""
    try:
        return {entry.name.rpartition("-")[2]: entry for entry in (state_dir / "runs").iterdir()}
    except OSError:
        return {}


def _tail(path: Path) -> bytes:
    """Return the last bytes of a file; none if it cannot be read."""
    with suppress(OSError), path.open("rb") as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - TAIL_BYTES, 0))
        return stream.read(TAIL_BYTES)
    return b""

"""`orch flaky`: tests that passed and failed, how often, and what their failures have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.analysis.flakiness import find_causes
from orchestrator.coordinator.console import parse_window, say, show
from orchestrator.coordinator.database import database_for_report
from orchestrator.coordinator.session import load_with_database
from orchestrator.database.queries.flaky import always_failing, flaky_tests
from orchestrator.errors import ExitCode, UsageError
from orchestrator.reports.tables.flaky import always_lines, flaky_lines, flaky_table, worst_first

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyOptions:
    """The options of `orch flaky`."""

    config_path: Path | None
    database: str | None
    engine_url: str | None
    since: str
    until: str | None
    diagnose: str | None
    runs: int | None
    output_format: str
    limit: int


def flaky(options: FlakyOptions) -> int:
    """Print the flaky tests of the window; with `diagnose` run one of them under several conditions instead."""
    if options.diagnose is not None:
        from orchestrator.coordinator.diagnosis.diagnose import RUNS, diagnose

        return diagnose(
            options.diagnose,
            config_path=options.config_path,
            database=options.database,
            engine_url=options.engine_url,
            window=parse_window(options.since, options.until),
            runs=options.runs or RUNS,
            output_format=options.output_format,
        )
    if options.runs is not None:
        raise UsageError("--runs needs --diagnose", remedy="orch flaky --diagnose TEST --runs N")
    window = parse_window(options.since, options.until)
    config = load_with_database(options.config_path, options.database)
    with database_for_report(config) as db:
        found = flaky_tests(db, since=window.since, until=window.until)
        broken = always_failing(db, since=window.since, until=window.until)
    rows = worst_first((test, find_causes(test)) for test in found)
    shown = rows[: options.limit]
    if options.output_format != "table":
        show(flaky_table(shown), options.output_format)
        return ExitCode.OK
    for line in always_lines(broken, limit=options.limit):
        say(line)
    if not rows:
        say(f"no flaky tests; {window.text}")
        return ExitCode.OK
    for line in flaky_lines(shown, more=len(rows) - len(shown)):
        say(line)
    say(window.text)
    return ExitCode.OK

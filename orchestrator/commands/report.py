"""`orch report` and `orch offenders`: show usage and violations in a window of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import Window, note, parse_window, say, show, write
from orchestrator.coordinator.database import database_for_report, database_to_read
from orchestrator.coordinator.earlier_reports import remove_earlier_reports
from orchestrator.coordinator.session import load_with_database
from orchestrator.errors import ExitCode, UsageError
from orchestrator.model.resources import DEFAULT_RESOURCES, Resource
from orchestrator.model.stored import MINIMUM_FOR_TREND
from orchestrator.reports.tables import usage
from orchestrator.text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PEOPLE = ("table", "markdown")
"""The formats for people, which show fewer figures and print an explanation below the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """The options of `orch report`."""

    config_path: Path | None
    database: str | None
    since: str | None
    until: str | None
    run_id: str | None
    violations: bool
    resources: tuple[str, ...]
    sort: str
    output_format: str
    limit: int
    html: Path | None = None
    prometheus: Path | None = None


def report(options: ReportOptions) -> int:
    """Show the usage of each test over a window, the tests of one run, or violations. Return the exit code."""
    if options.run_id is not None and (options.since or options.until):
        raise UsageError(
            "--run cannot be combined with --since or --until", remedy="report on a run or on a window"
        )
    if options.html or options.prometheus:
        return _files(options)
    window = parse_window(options.since or "7d", options.until)
    if options.violations or options.output_format == "sarif":
        return _violations(options, window)
    if options.run_id is None:
        return _usage(options, window)
    from orchestrator.database.queries.runs import load_run
    from orchestrator.reports.tables import render

    with database_to_read(options.config_path, options.database, scoped=options.run_id == "latest") as db:
        record = load_run(db, options.run_id)
    show((render.runs_table([record.run]), render.attempts_table(record.attempts)), options.output_format)
    return ExitCode.OK


def _files(options: ReportOptions) -> int:
    from orchestrator.coordinator.output.window_report import write_reports

    if options.run_id is not None or options.violations or options.resources:
        raise UsageError(
            "--html and --prometheus report on a whole window",
            remedy="leave out --run, --violations and --resource",
        )
    remove_earlier_reports({"html": options.html, "prometheus": options.prometheus})
    config = load_with_database(options.config_path, options.database)
    window = parse_window(options.since or "24h", options.until)
    write_reports(window, config=config, html=options.html, prometheus=options.prometheus)
    return ExitCode.OK


def _usage(options: ReportOptions, window: Window) -> int:
    from orchestrator.database.queries.usage import top_usage

    people = options.output_format in PEOPLE
    resources = _resources(options.resources, people=people)
    with database_for_report(load_with_database(options.config_path, options.database)) as db:
        shown, more = top_usage(
            db,
            since=window.since,
            until=window.until,
            resources=resources,
            sort=options.sort,
            limit=options.limit,
        )
    table = usage.wide_table(shown) if people and not options.resources else usage.usage_table(shown)
    show(table, options.output_format)
    if options.output_format == "table" and shown:
        say()
        compared = any(row.trend is not None for row in shown)
        _explain(window, plural(len({row.test_id for row in shown}), "test"), more, compared=compared)
    return ExitCode.OK


def _explain(window: Window, what: str, more: int, *, compared: bool) -> None:
    """Print what the table covers and leaves out, below a table for people."""
    rest = f", {more} more with a larger --limit" if more else ""
    say(f"{what}{rest}; {window.text}")
    if compared:
        say(f"trend: the median compared with {window.before}, if each has at least {MINIMUM_FOR_TREND} runs")


def _resources(names: Sequence[str], *, people: bool) -> tuple[Resource, ...]:
    if "all" in names:
        return tuple(Resource)
    return tuple(Resource(name) for name in names) or (usage.WIDE if people else DEFAULT_RESOURCES)


def _violations(options: ReportOptions, window: Window) -> int:
    from orchestrator.database.queries import violations
    from orchestrator.reports.formats import sarif
    from orchestrator.reports.tables.violations import violation_groups, violations_table

    config = load_with_database(options.config_path, options.database)
    with database_for_report(config, scoped=options.run_id in (None, "latest")) as db:
        limit = sarif.MAX_RESULTS if options.output_format == "sarif" else options.limit
        if options.run_id is not None:
            found = tuple(violation_groups(violations.load_violations(db, run=options.run_id)))
            shown, more = found[:limit], max(len(found) - limit, 0)
        else:
            shown, more = violations.load_violation_groups(db, since=window.since, until=window.until, limit=limit)
    if options.output_format == "sarif":
        write(sarif.sarif_text(shown, left_out=more, project=config.project_root.resolve().name))
        return ExitCode.OK
    show(violations_table(shown), options.output_format)
    if more:
        note(f"{more} more with a larger --limit")
    return ExitCode.OK


def offenders(
    *,
    config_path: Path | None,
    database: str | None,
    by: str,
    since: str,
    until: str | None,
    output_format: str,
    limit: int,
) -> int:
    """Show the tests that use most of one resource, or of each. Return the exit code."""
    from orchestrator.database.queries.offenders import offenders_by

    window = parse_window(since, until)
    chosen = tuple(Resource) if by == "all" else (Resource(by),)
    with database_for_report(load_with_database(config_path, database)) as db:
        found = offenders_by(db, chosen, since=window.since, until=window.until, limit=limit)
    if by == "all":
        show([usage.offenders_table(rows, name=f"by_{r.key}") for r, rows in found.items()], output_format)
    else:
        show(usage.offenders_table(found[chosen[0]]), output_format)
    return ExitCode.OK

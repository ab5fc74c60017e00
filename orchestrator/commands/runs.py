"""`orch runs ...`: list, show, compare, export and prune recorded runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note, say, show
from orchestrator.coordinator.database import database_to_read, database_to_write
from orchestrator.coordinator.retention import OldRun, in_use, old_runs, remove_old_runs
from orchestrator.coordinator.session import load_with_database
from orchestrator.database.queries.export import export_run
from orchestrator.database.queries.run_diff import diff_runs
from orchestrator.database.queries.runs import list_runs, load_run
from orchestrator.errors import ExitCode
from orchestrator.reports.json_encoding import to_json
from orchestrator.reports.tables import render
from orchestrator.text import one_line, plural

if TYPE_CHECKING:
    from pathlib import Path


def runs_list(*, config_path: Path | None, database: str | None, output_format: str, limit: int) -> int:
    """Print the latest runs."""
    with database_to_read(config_path, database) as db:
        show(render.runs_table(list_runs(db, limit)), output_format)
    return ExitCode.OK


def runs_show(*, config_path: Path | None, database: str | None, run_id: str, output_format: str) -> int:
    """Print one run with its tests."""
    with database_to_read(config_path, database, scoped=run_id == "latest") as db:
        record = load_run(db, run_id)
    show((render.runs_table([record.run]), render.attempts_table(record.attempts)), output_format)
    if output_format == "table":
        for test_id in record.not_run:
            say(f"not run: {one_line(str(test_id))}")
        for attempt in record.attempts:
            for violation in attempt.violations:
                say(f"{violation.severity.value}: {one_line(f'{attempt.test_id}: {violation.message}')}")
    return ExitCode.OK


def runs_diff(
    *, config_path: Path | None, database: str | None, before: str, after: str, output_format: str
) -> int:
    """Print what changed between two runs."""
    with database_to_read(config_path, database, scoped="latest" in (before, after)) as db:
        show(render.diff_tables(diff_runs(db, before, after)), output_format)
    return ExitCode.OK


def runs_export(*, config_path: Path | None, database: str | None, run_id: str, out: Path | None) -> int:
    """Print, or write to the file `out`, everything that is recorded of one run."""
    with database_to_read(config_path, database, scoped=run_id == "latest") as db:
        text = to_json(export_run(db, run_id))
    if out is None:
        say(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
    return ExitCode.OK


def runs_prune(*, config_path: Path | None, database: str | None, dry_run: bool) -> int:
    """Remove the run folders and records that the retention settings no longer keep; with `dry_run`, only list
    them.
    """
    from orchestrator.text import format_bytes

    config = load_with_database(config_path, database)
    if dry_run:
        old = [run for run in old_runs(config.state_dir, config.retention) if not in_use(run.path)]
        for run in old:
            say(f"would remove {run.path} ({format_bytes(run.bytes)}): {run.reason}")
        if not old:
            say("no run folder would be removed")
        return ExitCode.OK
    gone: list[OldRun] = []
    problems = remove_old_runs(config.state_dir, config.retention, removed=gone.append)
    for run in gone:
        say(f"removed {run.path} ({format_bytes(run.bytes)}): {run.reason}")
    for problem in problems:
        note(problem)
    with database_to_write(config_path, database) as db:
        count = db.prune(config.retention)
    say(f"removed {plural(len(gone), 'run folder')} and the records of {plural(count, 'run')}")
    return ExitCode.OK

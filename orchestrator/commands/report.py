"""`orch report` and `orch offenders`: what the resource database knows, over a window of time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.commands.printing import parse_since, show
from orchestrator.commands.session import load
from orchestrator.database import queries
from orchestrator.database.store import Database
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import owner_alive
from orchestrator.reports import tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.model_reports import OffenderOrder


@contextmanager
def opened(config_path: Path | None, database: str | None) -> Iterator[Database]:
    """The project's resource database."""
    config = load(config_path, {} if database is None else {"database": database})
    with Database.open(config.database_url, state_dir=config.state_dir, owner_alive=owner_alive) as db:
        yield db


def report(
    *,
    config_path: Path | None,
    database: str | None,
    since: str,
    run_id: str | None,
    output_format: str,
    limit: int,
) -> int:
    """Usage of each test over a window, or the tests of one run."""
    with opened(config_path, database) as db:
        if run_id is not None:
            record = queries.load_run(db, run_id)
            show((tables.runs_table([record.run]), tables.attempts_table(record.attempts)), output_format)
        else:
            rows = queries.usage_report(db, since=parse_since(since))
            show(tables.usage_table(rows[:limit]), output_format)
    return ExitCode.OK


def offenders(
    *,
    config_path: Path | None,
    database: str | None,
    by: OffenderOrder,
    since: str,
    output_format: str,
    limit: int,
) -> int:
    """The tests that cost most."""
    with opened(config_path, database) as db:
        rows = queries.offenders(db, since=parse_since(since), by=by, limit=limit)
        show(tables.offenders_table(rows), output_format)
    return ExitCode.OK

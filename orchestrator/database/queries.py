"""All questions that the commands ask of the database, in one place to import from."""

from __future__ import annotations

from orchestrator.database.broken import broken_budgets, troubles
from orchestrator.database.compare import diff_runs
from orchestrator.database.export import export_run
from orchestrator.database.flaky import flaky_tests
from orchestrator.database.loading import failed_tests, find_run, list_runs, load_run, load_samples
from orchestrator.database.nightly import nightly
from orchestrator.database.observed import figures_of_runs, has_branch, observed, runs_up_to
from orchestrator.database.ranking import offenders
from orchestrator.database.sizes import database_size
from orchestrator.database.usage import first_usage, usage_report

__all__ = [
    "broken_budgets",
    "database_size",
    "diff_runs",
    "export_run",
    "failed_tests",
    "figures_of_runs",
    "find_run",
    "first_usage",
    "flaky_tests",
    "has_branch",
    "list_runs",
    "load_run",
    "load_samples",
    "nightly",
    "observed",
    "offenders",
    "runs_up_to",
    "troubles",
    "usage_report",
]

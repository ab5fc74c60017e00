"""All questions that the commands ask of the database, in one place to import from: each is loaded when it is
first asked, for no command asks them all.
"""
# ruff: noqa: I001, PLC0414 - `as` says to type checkers that others may import the name from here (PEP 484)

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.database.broken import broken_budgets as broken_budgets, troubles as troubles
    from orchestrator.database.compare import diff_runs as diff_runs
    from orchestrator.database.deciding import first_attempts as first_attempts
    from orchestrator.database.export import export_run as export_run
    from orchestrator.database.flaky import always_failing as always_failing, flaky_tests as flaky_tests
    from orchestrator.database.loading import (
        failed_tests as failed_tests,
        find_run as find_run,
        list_runs as list_runs,
        load_run as load_run,
        load_samples as load_samples,
    )
    from orchestrator.database.nightly import nightly as nightly
    from orchestrator.database.observed import (
        figures_of_runs as figures_of_runs,
        has_branch as has_branch,
        observed as observed,
        runs_up_to as runs_up_to,
    )
    from orchestrator.database.projects import known_projects as known_projects
    from orchestrator.database.ranking import offenders as offenders, offenders_by as offenders_by
    from orchestrator.database.sizes import database_size as database_size
    from orchestrator.database.usage import (
        first_usage as first_usage,
        later_usage as later_usage,
        usage_report as usage_report,
    )

_MODULES = {
    "always_failing": "flaky",
    "broken_budgets": "broken",
    "database_size": "sizes",
    "diff_runs": "compare",
    "export_run": "export",
    "failed_tests": "loading",
    "figures_of_runs": "observed",
    "find_run": "loading",
    "first_attempts": "deciding",
    "first_usage": "usage",
    "flaky_tests": "flaky",
    "has_branch": "observed",
    "known_projects": "projects",
    "later_usage": "usage",
    "list_runs": "loading",
    "load_run": "loading",
    "load_samples": "loading",
    "nightly": "nightly",
    "observed": "observed",
    "offenders": "ranking",
    "offenders_by": "ranking",
    "runs_up_to": "observed",
    "troubles": "broken",
    "usage_report": "usage",
}


def __getattr__(name: str) -> object:
    """The question of that name; it is kept, so that this is called once for each (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"orchestrator.database.{_MODULES[name]}"), name)
    globals()[name] = found
    return found

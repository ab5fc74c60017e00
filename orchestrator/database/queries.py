"""All questions that the commands ask of the database, in one place to import from: each is loaded when it is
first asked, for no command asks them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "broken_budgets": "broken",
    "database_size": "sizes",
    "diff_runs": "compare",
    "export_run": "export",
    "failed_tests": "loading",
    "figures_of_runs": "observed",
    "find_run": "loading",
    "first_usage": "usage",
    "flaky_tests": "flaky",
    "has_branch": "observed",
    "list_runs": "loading",
    "load_run": "loading",
    "load_samples": "loading",
    "nightly": "nightly",
    "observed": "observed",
    "offenders": "ranking",
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

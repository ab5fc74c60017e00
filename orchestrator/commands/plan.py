"""`orch plan` and `orch list`: show which tests would run, where and why, without starting anything."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from orchestrator.coordinator.console import note, say
from orchestrator.coordinator.database import LazyDatabase
from orchestrator.coordinator.options import Selection
from orchestrator.coordinator.output.plan_output import Startup, plan_document, print_plan
from orchestrator.coordinator.selection import handle_empty_selection, make_plan
from orchestrator.coordinator.session import load
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import host_info
from orchestrator.reports.json_encoding import to_json

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.model.runs import HostInfo
    from orchestrator.model.tests import Assignment


def plan(*, output_format: str, out: Path | None, **options: Any) -> int:
    """Print the plan, or write it to a file."""
    from orchestrator.coordinator.selection import budget

    selection = Selection(**options)
    config = load(selection.config_path, selection.overrides())
    host = host_info()
    with LazyDatabase(config, lambda _: None, reading=True) as known:
        assignments = _assignments(selection, config, host, known)
        if not assignments:
            return ExitCode.OK
        startup = _startup(known.startup_seconds())
    limits = budget(config, host, assignments)
    if out is not None:
        out.write_text(to_json(plan_document(assignments, limits, startup)) + "\n", encoding="utf-8")
        say(f"{len(assignments)} tests planned; written to {out}")
        return ExitCode.OK
    return print_plan(assignments, limits, output_format, startup)


def _startup(known: tuple[float, int] | None) -> Startup:
    """Return the start-up time of a container from the history, or the default where the history has none."""
    if known is None:
        return Startup()
    return Startup(seconds=known[0], source=f"median of the last {known[1]}")


def list_tests(*, output_format: str, **options: Any) -> int:
    """Print the selected tests."""
    selection = Selection(**options)
    config = load(selection.config_path, selection.overrides())
    with LazyDatabase(config, lambda _: None, reading=True) as known:
        # only a list of what to run again asks for earlier runs
        assignments = _assignments(selection, config, host_info(), known if selection.rerun is not None else None)
    if output_format == "json":
        documents = [
            {"id": str(a.test.id), "suite": a.test.suite, "profile": a.profile.name, "reason": a.reason}
            for a in assignments
        ]
        say(to_json({"schema": 1, "tests": documents}))
    else:
        for assignment in assignments:
            say(str(assignment.test.id).encode(errors="backslashreplace").decode())
    return ExitCode.OK


def _assignments(
    selection: Selection, config: Config, host: HostInfo, known: LazyDatabase | None
) -> tuple[Assignment, ...]:
    found = make_plan(selection, config, host=host, run_id=str(uuid.uuid4()), earlier=known, notice=note)
    if not found:
        handle_empty_selection(config, note)
    return found

"""`orch plan` and `orch list`: what would run, where and why. Nothing is started."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from orchestrator.commands.options import Selection
from orchestrator.commands.printing import note, say, show
from orchestrator.commands.selecting import make_plan, nothing_selected
from orchestrator.commands.session import load
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import host_info
from orchestrator.reports.grid import Column, Figure, Table
from orchestrator.reports.jsonrun import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.model import Assignment
    from orchestrator.scheduling.admission import Budget

START_SECONDS = 0.15
"""What a container costs a test on top, for the prediction (docs/design, measured facts)."""


def plan(*, output_format: str, out: Path | None, **options: Any) -> int:
    """Print the plan, or write it to a file."""
    from orchestrator.commands.run import budget

    selection = Selection(**options)
    assignments, config, host = _assignments(selection)
    if not assignments:
        return ExitCode.OK
    limits = budget(config, host, assignments)
    if out is not None:
        out.write_text(to_json(_document(assignments, limits)) + "\n", encoding="utf-8")
        say(f"{len(assignments)} tests planned; written to {out}")
        return ExitCode.OK
    return print_plan(assignments, limits, output_format)


def list_tests(*, output_format: str, **options: Any) -> int:
    """Print the selected tests."""
    assignments, _, _ = _assignments(Selection(**options), history=False)
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


def _assignments(selection: Selection, *, history: bool = True) -> tuple[tuple[Assignment, ...], Any, Any]:
    config = load(selection.config_path, selection.overrides())
    host = host_info()
    run_id = str(uuid.uuid4())
    database_file = config.state_dir / "resources.db"
    if selection.rerun is None and (not history or (config.database_url is None and not database_file.exists())):
        found = make_plan(selection, config, host=host, run_id=run_id, database=None, notice=note)
    else:
        from orchestrator.database.store import Database

        with Database.open(config.database_url, state_dir=config.state_dir) as database:
            found = make_plan(selection, config, host=host, run_id=run_id, database=database, notice=note)
    if not found:
        nothing_selected(config, note)
    return found, config, host


def print_plan(plan: Sequence[Assignment], budget: Budget, output_format: str) -> int:
    """The plan on stdout: what runs, why so, and what limits it."""
    if output_format == "json":
        say(to_json(_document(plan, budget)))
        return ExitCode.OK
    from orchestrator.scheduling.order import order

    columns = (
        Column(key="profile", title="profile"),
        Column(key="cpus", title="cpus", right=True),
        Column(key="memory_bytes", title="memory", right=True),
        Column(key="timeout_seconds", title="timeout", right=True),
        Column(key="test", title="test", flexible=True),
        Column(key="reason", title="why"),
    )
    rows = tuple(
        (
            a.profile.name,
            Figure(a.profile.limits.cpus, "count"),
            Figure(a.profile.limits.memory_bytes, "bytes"),
            Figure(a.profile.limits.timeout_seconds, "seconds"),
            str(a.test.id),
            "; ".join((a.reason, *a.clamped)),
        )
        for a in order(plan)
    )
    show(Table(name="plan", columns=columns, rows=rows), "table")
    say()
    for line in _prediction_lines(plan, budget):
        say(line)
    return ExitCode.OK


def _prediction_lines(plan: Sequence[Assignment], budget: Budget) -> list[str]:
    from orchestrator.reports.text import format_duration, format_ratio
    from orchestrator.scheduling.predict import predict

    predicted = predict(plan, budget, startup_seconds=START_SECONDS)
    known = sum(a.history is not None for a in plan)
    lines = [
        (
            f"{len(plan)} tests, {known} with history; predicted {format_duration(predicted.makespan_seconds)}"
            f" (one at a time {format_duration(predicted.test_seconds)})"
        )
    ]
    if predicted.bound_seconds:
        limit = max(predicted.bound_seconds, key=lambda name: predicted.bound_seconds[name])
        used = ", ".join(
            f"{name} {format_ratio(share)}" for name, share in predicted.utilisation.items() if share > 0
        )
        lines.append(f"limited by {limit}; mean use: {used}")
    return lines


def _document(plan: Sequence[Assignment], budget: Budget) -> dict[str, object]:
    from orchestrator.scheduling.predict import predict

    predicted = predict(plan, budget, startup_seconds=START_SECONDS)
    return {
        "schema": 1,
        "predicted_seconds": predicted.makespan_seconds,
        "utilisation": dict(predicted.utilisation),
        "bound_seconds": dict(predicted.bound_seconds),
        "tests": [
            {
                "id": str(a.test.id),
                "suite": a.test.suite,
                "profile": a.profile.name,
                "reason": a.reason,
                "clamped": list(a.clamped),
                "repetition": a.repetition,
                "cpus": a.profile.limits.cpus,
                "memory_bytes": a.profile.limits.memory_bytes,
                "timeout_seconds": a.profile.limits.timeout_seconds,
                "command": list(a.test.command.argv),
            }
            for a in plan
        ],
    }

"""The plan of a run as a table with a prediction, or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import say, show
from orchestrator.errors import ExitCode
from orchestrator.reports.json_encoding import to_json
from orchestrator.reports.tables.table import Column, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.simulation import Prediction

START_SECONDS = 0.104
"""The start-up time of a fresh container if there is no history. Measured on Docker 20.10, one after another."""
REUSED_SECONDS = 0.0013
"""The start-up time of a test in a container that is reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """The time that starting a fresh container adds to a test, and where the figure comes from."""

    seconds: float = START_SECONDS
    source: str = "measured on another machine: no history here"


def print_plan(
    plan: Sequence[Assignment], budget: Budget, output_format: str, startup: Startup | None = None
) -> int:
    """Print the plan: each test with its profile and reason, the predicted schedule, and what limits it."""
    startup = startup or Startup()
    if output_format == "json":
        say(to_json(plan_document(plan, budget, startup)))
        return ExitCode.OK
    from orchestrator.scheduling.wait_queue import longest_first

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
        for a in longest_first(plan)
    )
    show(Table(name="plan", columns=columns, rows=rows), "table")
    say()
    for line in _prediction_lines(plan, budget, startup):
        say(line)
    return ExitCode.OK


def _predict(plan: Sequence[Assignment], budget: Budget, startup: Startup) -> Prediction:
    from orchestrator.scheduling.simulation import predict

    return predict(plan, budget, startup_seconds=startup.seconds, reused_seconds=REUSED_SECONDS)


def _prediction_lines(plan: Sequence[Assignment], budget: Budget, startup: Startup) -> list[str]:
    from orchestrator.reports.tables.packing import packing_lines
    from orchestrator.text import format_ratio, format_seconds, plural

    predicted = _predict(plan, budget, startup)
    bound, bound_seconds = predicted.lower_bound
    fresh = sum(one.fresh for one in predicted.scheduled)
    lines = [
        *packing_lines(predicted.scheduled, predicted.makespan_seconds),
        "",
        (
            f"{plural(len(plan), 'test')}, {len(plan) - predicted.unknown} with history;"
            f" predicted {format_seconds(predicted.makespan_seconds)},"
            f" one at a time {format_seconds(predicted.test_seconds)}"
        ),
        f"no schedule is shorter than {format_seconds(bound_seconds)} ({_BOUNDS[bound]})",
    ]
    if predicted.bound_by is not None:
        used = ", ".join(
            f"{name} {format_ratio(share)}" for name, share in predicted.utilisation.items() if share > 0
        )
        lines.append(f"limited by {predicted.bound_by}; mean use: {used}")
    else:
        lines.append("no test has to wait: no resource limits the parallelism")
    lines.append(
        f"start-up counted: {plural(fresh, 'container')} of {format_seconds(startup.seconds)} ({startup.source})"
    )
    if predicted.unknown:
        lines.append(f"{plural(predicted.unknown, 'test')} without history counted with the whole timeout")
    return lines


_BOUNDS = {
    "cpus": "the CPU time of all tests over the CPUs",
    "memory": "the memory of all tests over the memory, times seconds",
    "slots": "the time of all tests over the tests at a time",
    "longest": "the longest test",
    "group": "the longest group, one test at a time",
}


def plan_document(plan: Sequence[Assignment], budget: Budget, startup: Startup) -> dict[str, object]:
    """Return the plan and its prediction as the JSON document of `orch plan --format json`."""
    predicted = _predict(plan, budget, startup)
    return {
        "schema": 1,
        "predicted_seconds": predicted.makespan_seconds,
        "lower_bound_seconds": predicted.lower_bound[1],
        "lower_bounds": dict(predicted.lower_bounds),
        "limited_by": predicted.bound_by,
        "startup_seconds": startup.seconds,
        "startup_source": startup.source,
        "utilisation": dict(predicted.utilisation),
        "bound_seconds": dict(predicted.bound_seconds),
        "packing": [
            {
                "id": one.assignment.key,
                "lane": one.worker + 1,
                "started_seconds": one.started_seconds,
                "ended_seconds": one.ended_seconds,
                "fresh": one.fresh,
            }
            for one in predicted.scheduled
        ],
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

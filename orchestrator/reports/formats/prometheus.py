"""Figures of a window as a text file for the textfile collector of Prometheus' node_exporter.

The file has sums and, for each resource, only the highest figures: a series for each test of a large suite would
be too many (https://prometheus.io/docs/practices/naming/ on labels). prometheus-client writes the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.text import one_line

if TYPE_CHECKING:
    from orchestrator.model.nightly import Nightly, NightlyTest

WORST = 10
_LABEL_LIMIT = 300
_PER_TEST = (
    (Resource.MEMORY, "orch_worst_memory_peak_bytes", "Highest peak memory of a test within the window"),
    (Resource.CPU, "orch_worst_cpu_seconds", "Most CPU time of a test within the window"),
    (Resource.DURATION, "orch_worst_duration_seconds", "Longest duration of a test within the window"),
    (Resource.MEMORY_RATIO, "orch_worst_memory_ratio", "Largest share of its memory limit that a test took"),
    (Resource.TIME_RATIO, "orch_worst_time_ratio", "Largest share of its timeout that a test took"),
)


_MEMORY = (Resource.MEMORY, Resource.MEMORY_RATIO)
"""Resources whose figures have the label `bound`."""


def prometheus_text(report: Nightly) -> bytes:
    """Return the file's content. All series have the label `project`; a figure that was not measured has no
    series.
    """
    registry = CollectorRegistry()
    project = one_line(report.runs[0].project, _LABEL_LIMIT) if report.runs else ""
    _counts(report, registry, project)
    _costs(report, registry, project)
    for resource, name, what in _PER_TEST:
        measured = [(value, test) for test in report.tests if (value := test.maximum(resource)) is not None]
        labels = ["project", "test", "profile", *(["bound"] if resource in _MEMORY else [])]
        gauge = Gauge(name, f"{what}; the {WORST} worst.", labels, registry=registry)
        for value, test in sorted(measured, key=lambda pair: (-pair[0], str(pair[1].test_id)))[:WORST]:
            profile = one_line(test.last.profile, _LABEL_LIMIT)
            bound = [_bound(test)] if resource in _MEMORY else []
            gauge.labels(project, one_line(str(test.test_id), _LABEL_LIMIT), profile, *bound).set(value)
    return generate_latest(registry)


def _bound(test: NightlyTest) -> str:
    """Return `lower` if the highest memory figure of the last run is only a lower bound; an empty label is the
    same as none. Upper bounds need no mark: the database does not rank them.
    """
    highest = max(test.attempts, key=lambda attempt: attempt.usage.memory_peak_bytes or 0)
    return "lower" if highest.usage.memory_peak_is_lower_bound else ""


def _counts(report: Nightly, registry: CollectorRegistry, project: str) -> None:
    tests = Gauge("orch_tests", "Tests by their last outcome.", ["project", "outcome"], registry=registry)
    for outcome in Outcome:
        tests.labels(project, outcome.value).set(report.outcomes.get(outcome, 0))
    broken = Gauge("orch_violations", "Tests with a violation.", ["project", "kind"], registry=registry)
    for test in report.tests:
        for kind in test.kinds:
            broken.labels(project, kind.value).inc()
    if not report.compares:
        return
    new = Gauge("orch_new_failures", "Tests that fail and did not before.", ["project"], registry=registry)
    new.labels(project).set(sum(test.newly_failing for test in report.tests))
    cured = Gauge("orch_cured", "Tests that pass and failed before.", ["project"], registry=registry)
    cured.labels(project).set(sum(test.fixed for test in report.tests))


def _costs(report: Nightly, registry: CollectorRegistry, project: str) -> None:
    cost = report.cost
    figures = [
        ("orch_runs", "Runs within the window.", cost.runs),
        ("orch_attempts", "Attempts within the window.", cost.attempts),
        ("orch_runs_wall_seconds", "Total duration of the runs.", cost.wall_seconds),
        ("orch_attempts_cpu_seconds", "CPU time of all attempts.", cost.cpu_seconds),
        ("orch_report_timestamp_seconds", "Time at which this file was written.", report.made_at.timestamp()),
    ]
    if report.runs:
        started = report.runs[0].started_at.timestamp()
        figures.append(("orch_last_run_timestamp_seconds", "Start of the newest run.", started))
    for name, what, value in figures:
        if value is not None:
            Gauge(name, what, ["project"], registry=registry).labels(project).set(value)

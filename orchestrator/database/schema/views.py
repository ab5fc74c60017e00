"""Define the views for people who open the database with `sqlite3` or a browser, such as `SELECT * FROM
worst_memory LIMIT 10`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view: its name, its purpose and its query."""

    name: str
    comment: str
    query: str
    """The SQL text. `COUNT_OF(name)` stands for an entry of `runs.counts`, because databases read JSON
    differently.
    """


_TEST = "p.name AS project, t.path || coalesce('::' || t.case_name, '') AS test"
_FROM = "FROM attempts a JOIN tests t ON t.id = a.test_id JOIN projects p ON p.id = t.project_id"
_JUDGED = "a.outcome NOT IN ('infra', 'interrupted', 'skipped')"
_GROUP = "GROUP BY t.id, p.name, t.path, t.case_name"
_COUNTS = ("tests", "passed", "failed", "timeout", "oom", "crashed", "infra", "skipped", "flaky", "violations")

VIEWS = (
    View(
        name="worst_memory",
        comment="Tests by their highest peak of memory, with the largest share of a limit they ever took.",
        query=(
            f"SELECT {_TEST}, count(*) AS attempts, max(a.memory_peak_bytes) AS memory_peak_bytes, "
            "round(max(a.memory_peak_bytes) / 1048576.0, 1) AS memory_peak_mib, "
            "max(a.memory_peak_bytes * 1.0 / nullif(a.limit_memory_bytes, 0)) AS memory_ratio, "
            f"max(a.started_at) AS last_run_at {_FROM} "
            f"WHERE a.memory_peak_bytes IS NOT NULL AND {_JUDGED} {_GROUP} ORDER BY 4 DESC"
        ),
    ),
    View(
        name="worst_cpu",
        comment="Tests by the most CPU seconds they ever took.",
        query=(
            f"SELECT {_TEST}, count(*) AS attempts, max(a.cpu_seconds) AS cpu_seconds, "
            f"avg(a.cpu_seconds) AS cpu_seconds_mean, max(a.started_at) AS last_run_at {_FROM} "
            f"WHERE a.cpu_seconds IS NOT NULL AND {_JUDGED} {_GROUP} ORDER BY 4 DESC"
        ),
    ),
    View(
        name="slowest_tests",
        comment="Tests by their longest duration.",
        query=(
            f"SELECT {_TEST}, count(*) AS attempts, max(a.test_seconds) AS duration_seconds, "
            "avg(a.test_seconds) AS duration_seconds_mean, "
            f"max(a.started_at) AS last_run_at {_FROM} "
            f"WHERE {_JUDGED} {_GROUP} ORDER BY 4 DESC"
        ),
    ),
    View(
        name="flaky_tests",
        comment="Tests that failed and passed within one run, most often first.",
        query=(
            f"SELECT {_TEST}, count(*) AS results, sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) AS flaky, "
            "round(100.0 * sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) / count(*), 1) AS flaky_percent, "
            f"max(CASE WHEN a.is_flaky THEN a.started_at END) AS last_flaky_at {_FROM} "
            f"WHERE a.is_final {_GROUP} HAVING sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) > 0 "
            "ORDER BY 4 DESC"
        ),
    ),
    View(
        name="failing_tests",
        comment="Tests whose newest result is neither passed nor skipped.",
        query=(
            f"SELECT {_TEST}, a.test_outcome AS outcome, a.message, a.profile, a.started_at, "
            "substr(a.run_id, 1, 8) AS run FROM tests t JOIN projects p ON p.id = t.project_id "
            "JOIN attempts a ON a.test_id = t.id AND a.started_at = "
            "(SELECT newest.started_at FROM attempts newest WHERE newest.test_id = t.id AND newest.is_final "
            "ORDER BY newest.started_at DESC LIMIT 1) "
            "WHERE a.is_final AND a.test_outcome NOT IN ('passed', 'skipped') ORDER BY a.started_at DESC"
        ),
    ),
    View(
        name="recent_violations",
        comment="Violations of final attempts, newest first.",
        query=(
            f"SELECT v.started_at, v.severity, v.kind, {_TEST}, v.measured, v.limit_value AS allowed, v.unit, "
            "v.message, a.profile, substr(a.run_id, 1, 8) AS run "
            "FROM violations v JOIN attempts a ON a.id = v.attempt_id JOIN tests t ON t.id = v.test_id "
            "JOIN projects p ON p.id = t.project_id "
            "WHERE v.is_final ORDER BY v.started_at DESC"
        ),
    ),
    View(
        name="runs_overview",
        comment="Runs, newest first, with their counts.",
        query=(
            "SELECT substr(r.id, 1, 8) AS run, r.started_at, r.status, r.exit_code, r.duration_seconds, "
            "p.name AS project, r.branch, r.revision, "
            + ", ".join(f"COUNT_OF({name}) AS {name}" for name in _COUNTS)
            + ", h.cpus AS host_cpus, h.memory_bytes AS host_memory_bytes, r.engine_name, r.engine_version "
            "FROM runs r JOIN hosts h ON h.id = r.host_id JOIN projects p ON p.id = r.project_id "
            "ORDER BY r.started_at DESC"
        ),
    ),
    View(
        name="daily_totals",
        comment="Totals of each day that is summed up: attempts, failures, CPU time, duration.",
        query=(
            "SELECT d.day, p.name AS project, count(DISTINCT d.test_id) AS tests, sum(d.attempts) AS attempts, "
            "sum(d.failed + d.timeout + d.oom + d.crashed) AS failed_attempts, sum(d.flaky) AS flaky, "
            "sum(d.violations) AS violations, sum(d.cpu_seconds_sum) AS cpu_seconds, "
            "sum(d.test_seconds_sum) AS duration_seconds, max(d.memory_bytes_max) AS memory_peak_bytes "
            "FROM daily_usage d JOIN tests t ON t.id = d.test_id JOIN projects p ON p.id = t.project_id "
            "GROUP BY d.day, p.id, p.name ORDER BY d.day DESC"
        ),
    ),
)


def create_statement(view: View, dialect: str) -> str:
    """Return the statement that creates the view in `sqlite` or `postgresql`."""
    entry = r"json_extract(r.counts, '$.\1')" if dialect == "sqlite" else r"(r.counts ->> '\1')::bigint"
    query = re.sub(r"COUNT_OF[(](\w+)[)]", entry, view.query)
    return f"CREATE VIEW {view.name} AS {query}"

"""Views for people who open the database with `sqlite3`: `SELECT * FROM worst_memory LIMIT 10`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A stored query and what it is for."""

    name: str
    comment: str
    query: str


_TEST = "t.project, t.path || coalesce('::' || t.case_name, '') AS test"
_FROM = "FROM attempts a JOIN tests t ON t.id = a.test_id"
_JUDGED = "a.outcome NOT IN ('infra', 'interrupted', 'skipped')"
_GROUP = "GROUP BY t.id, t.project, t.path, t.case_name"

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
        name="slowest",
        comment="Tests by their longest duration.",
        query=(
            f"SELECT {_TEST}, count(*) AS attempts, max(a.test_seconds) AS duration_seconds, "
            f"avg(a.test_seconds) AS duration_seconds_mean, max(a.started_at) AS last_run_at {_FROM} "
            f"WHERE {_JUDGED} {_GROUP} ORDER BY 4 DESC"
        ),
    ),
    View(
        name="flaky_tests",
        comment="Tests that failed and passed within one run, most often first.",
        query=(
            f"SELECT {_TEST}, count(*) AS results, sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) AS flaky, "
            f"max(CASE WHEN a.is_flaky THEN a.started_at END) AS last_flaky_at {_FROM} "
            f"WHERE a.is_final {_GROUP} HAVING sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) > 0 "
            "ORDER BY 4 DESC"
        ),
    ),
)


def create_statement(view: View) -> str:
    """The view's DDL."""
    return f"CREATE VIEW {view.name} AS {view.query}"

"""Views for people who open the database with `sqlite3`."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEST = "t.project, t.path || coalesce('::' || t.case_name, '') AS test"
_FROM = "FROM attempts a JOIN tests t ON t.id = a.test_id"
_JUDGED = "a.outcome NOT IN ('infra', 'interrupted', 'skipped')"
_GROUP = "GROUP BY t.id, t.project, t.path, t.case_name"


def upgrade() -> None:
    op.execute(
        f"CREATE VIEW worst_memory AS SELECT {_TEST}, count(*) AS attempts, "
        "max(a.memory_peak_bytes) AS memory_peak_bytes, "
        "round(max(a.memory_peak_bytes) / 1048576.0, 1) AS memory_peak_mib, "
        "max(a.memory_peak_bytes * 1.0 / nullif(a.limit_memory_bytes, 0)) AS memory_ratio, "
        f"max(a.started_at) AS last_run_at {_FROM} "
        f"WHERE a.memory_peak_bytes IS NOT NULL AND {_JUDGED} {_GROUP} ORDER BY 4 DESC"
    )
    op.execute(
        f"CREATE VIEW worst_cpu AS SELECT {_TEST}, count(*) AS attempts, max(a.cpu_seconds) AS cpu_seconds, "
        f"avg(a.cpu_seconds) AS cpu_seconds_mean, max(a.started_at) AS last_run_at {_FROM} "
        f"WHERE a.cpu_seconds IS NOT NULL AND {_JUDGED} {_GROUP} ORDER BY 4 DESC"
    )
    op.execute(
        f"CREATE VIEW slowest AS SELECT {_TEST}, count(*) AS attempts, "
        "max(a.test_seconds) AS duration_seconds, "
        f"avg(a.test_seconds) AS duration_seconds_mean, max(a.started_at) AS last_run_at {_FROM} "
        f"WHERE {_JUDGED} {_GROUP} ORDER BY 4 DESC"
    )
    op.execute(
        f"CREATE VIEW flaky_tests AS SELECT {_TEST}, count(*) AS results, "
        "sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) AS flaky, "
        f"max(CASE WHEN a.is_flaky THEN a.started_at END) AS last_flaky_at {_FROM} "
        f"WHERE a.is_final {_GROUP} HAVING sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) > 0 ORDER BY 4 DESC"
    )

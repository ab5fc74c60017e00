"""Give each project an id of its own. A project that is recorded already keeps its name as its id, because the
keys of its tests are derived from it.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BEFORE_ALL = "1970-01-01 00:00:00.000000"
_TEST = "p.name AS project, t.path || coalesce('::' || t.case_name, '') AS test"
_FROM = "FROM attempts a JOIN tests t ON t.id = a.test_id JOIN projects p ON p.id = t.project_id"
_JUDGED = "a.outcome NOT IN ('infra', 'interrupted', 'skipped')"
_GROUP = "GROUP BY t.id, p.name, t.path, t.case_name"
_COUNTS = ("tests", "passed", "failed", "timeout", "oom", "crashed", "infra", "skipped", "flaky", "violations")
_VIEWS = {
    "worst_memory": (
        f"SELECT {_TEST}, count(*) AS attempts, max(a.memory_peak_bytes) AS memory_peak_bytes, "
        "round(max(a.memory_peak_bytes) / 1048576.0, 1) AS memory_peak_mib, "
        "max(a.memory_peak_bytes * 1.0 / nullif(a.limit_memory_bytes, 0)) AS memory_ratio, "
        f"max(a.started_at) AS last_run_at {_FROM} "
        f"WHERE a.memory_peak_bytes IS NOT NULL AND {_JUDGED} {_GROUP} ORDER BY 4 DESC"
    ),
    "worst_cpu": (
        f"SELECT {_TEST}, count(*) AS attempts, max(a.cpu_seconds) AS cpu_seconds, "
        f"avg(a.cpu_seconds) AS cpu_seconds_mean, max(a.started_at) AS last_run_at {_FROM} "
        f"WHERE a.cpu_seconds IS NOT NULL AND {_JUDGED} {_GROUP} ORDER BY 4 DESC"
    ),
    "slowest_tests": (
        f"SELECT {_TEST}, count(*) AS attempts, max(a.test_seconds) AS duration_seconds, "
        "avg(a.test_seconds) AS duration_seconds_mean, "
        f"max(a.started_at) AS last_run_at {_FROM} "
        f"WHERE {_JUDGED} {_GROUP} ORDER BY 4 DESC"
    ),
    "flaky_tests": (
        f"SELECT {_TEST}, count(*) AS results, sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) AS flaky, "
        "round(100.0 * sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) / count(*), 1) AS flaky_percent, "
        f"max(CASE WHEN a.is_flaky THEN a.started_at END) AS last_flaky_at {_FROM} "
        f"WHERE a.is_final {_GROUP} HAVING sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) > 0 "
        "ORDER BY 4 DESC"
    ),
    "failing_tests": (
        f"SELECT {_TEST}, a.test_outcome AS outcome, a.message, a.profile, a.started_at, "
        "substr(a.run_id, 1, 8) AS run FROM tests t JOIN projects p ON p.id = t.project_id "
        "JOIN attempts a ON a.test_id = t.id AND a.started_at = "
        "(SELECT newest.started_at FROM attempts newest WHERE newest.test_id = t.id AND newest.is_final "
        "ORDER BY newest.started_at DESC LIMIT 1) "
        "WHERE a.is_final AND a.test_outcome NOT IN ('passed', 'skipped') ORDER BY a.started_at DESC"
    ),
    "recent_violations": (
        f"SELECT v.started_at, v.severity, v.kind, {_TEST}, v.measured, v.limit_value AS allowed, v.unit, "
        "v.message, a.profile, substr(a.run_id, 1, 8) AS run "
        "FROM violations v JOIN attempts a ON a.id = v.attempt_id JOIN tests t ON t.id = v.test_id "
        "JOIN projects p ON p.id = t.project_id "
        "WHERE v.is_final ORDER BY v.started_at DESC"
    ),
    "runs_overview": (
        "SELECT substr(r.id, 1, 8) AS run, r.started_at, r.status, r.exit_code, r.duration_seconds, "
        "p.name AS project, r.branch, r.revision, "
        + ", ".join(f"COUNT_OF({name}) AS {name}" for name in _COUNTS)
        + ", h.cpus AS host_cpus, h.memory_bytes AS host_memory_bytes, r.engine_name, r.engine_version "
        "FROM runs r JOIN hosts h ON h.id = r.host_id JOIN projects p ON p.id = r.project_id "
        "ORDER BY r.started_at DESC"
    ),
    "daily_totals": (
        "SELECT d.day, p.name AS project, count(DISTINCT d.test_id) AS tests, sum(d.attempts) AS attempts, "
        "sum(d.failed + d.timeout + d.oom + d.crashed) AS failed_attempts, sum(d.flaky) AS flaky, "
        "sum(d.violations) AS violations, sum(d.cpu_seconds_sum) AS cpu_seconds, "
        "sum(d.test_seconds_sum) AS duration_seconds, max(d.memory_bytes_max) AS memory_peak_bytes "
        "FROM daily_usage d JOIN tests t ON t.id = d.test_id JOIN projects p ON p.id = t.project_id "
        "GROUP BY d.day, p.id, p.name ORDER BY d.day DESC"
    ),
}


def upgrade() -> None:
    for name in _VIEWS:  # they read the tables that are copied below
        op.execute(f"DROP VIEW IF EXISTS {name}")
    op.create_table(
        "projects",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("named_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.execute(
        "INSERT INTO projects (id, name, named_at) SELECT p.project, p.project, "
        f"coalesce((SELECT max(r.started_at) FROM runs r WHERE r.project = p.project), '{_BEFORE_ALL}') "
        "FROM (SELECT project FROM runs UNION SELECT project FROM tests) p"
    )
    _name_by_id()
    for name, query in _VIEWS.items():
        op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {_in_dialect(query)}")


def _name_by_id() -> None:
    op.add_column("runs", sa.Column("project_id", sa.Text()))
    op.execute("UPDATE runs SET project_id = project")
    with op.batch_alter_table("runs") as batch:
        batch.alter_column("project_id", existing_type=sa.Text(), nullable=False)
        batch.create_foreign_key(
            op.f("fk_runs_project_id_projects"), "projects", ["project_id"], ["id"], ondelete="CASCADE"
        )
    with op.batch_alter_table("tests") as batch:
        batch.alter_column(
            "project",
            new_column_name="project_id",
            existing_type=sa.Text(),
            existing_nullable=False,
        )
    with op.batch_alter_table("tests") as batch:  # together with the new name it would be lost
        batch.create_foreign_key(
            op.f("fk_tests_project_id_projects"), "projects", ["project_id"], ["id"], ondelete="CASCADE"
        )


def _in_dialect(query: str) -> str:
    sqlite = op.get_context().dialect.name == "sqlite"
    entry = r"json_extract(r.counts, '$.\1')" if sqlite else r"(r.counts ->> '\1')::bigint"
    return re.sub(r"COUNT_OF[(](\w+)[)]", entry, query)

"""Figures of each test summed up by day, which database a row came from, more views."""

import re
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAMESPACE = uuid.UUID("6f726368-0000-5000-8000-7265736f7572")
_OLD_VIEWS = ("worst_memory", "worst_cpu", "slowest", "flaky_tests")
_OUTCOMES = ("passed", "failed", "timeout", "oom", "crashed", "infra", "interrupted", "skipped")
_FIGURES = {
    "memory_bytes": "highest memory",
    "cpu_seconds": "CPU time",
    "test_seconds": "duration",
    "memory_ratio": "memory over its limit",
    "time_ratio": "duration over its limit",
    "pids": "most processes and threads",
    "throttled_seconds": "time held back by the CPU limit",
    "anon_bytes": "highest anonymous memory",
    "shmem_bytes": "highest shared memory and tmpfs",
    "read_bytes": "bytes read from block devices",
    "write_bytes": "bytes written to block devices",
    "output_bytes": "bytes printed",
}

_TEST = "t.project, t.path || coalesce('::' || t.case_name, '') AS test"
_FROM = "FROM attempts a JOIN tests t ON t.id = a.test_id"
_JUDGED = "a.outcome NOT IN ('infra', 'interrupted', 'skipped')"
_GROUP = "GROUP BY t.id, t.project, t.path, t.case_name"
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
        f"substr(a.run_id, 1, 8) AS run {_FROM} "
        "WHERE a.is_final AND a.test_outcome NOT IN ('passed', 'skipped') AND NOT EXISTS (SELECT 1 "
        "FROM attempts later WHERE later.test_id = a.test_id AND later.started_at > a.started_at "
        "AND later.is_final) ORDER BY a.started_at DESC"
    ),
    "recent_violations": (
        f"SELECT a.started_at, v.severity, v.kind, {_TEST}, v.measured, v.limit_value AS allowed, v.unit, "
        "v.message, a.profile, substr(a.run_id, 1, 8) AS run "
        "FROM attempts a JOIN violations v ON v.attempt_id = a.id JOIN tests t ON t.id = a.test_id "
        "WHERE a.is_final ORDER BY a.started_at DESC"
    ),
    "runs_overview": (
        "SELECT substr(r.id, 1, 8) AS run, r.started_at, r.status, r.exit_code, r.duration_seconds, "
        "r.project, r.branch, r.revision, "
        + ", ".join(f"COUNT_OF({name}) AS {name}" for name in _COUNTS)
        + ", h.cpus AS host_cpus, h.memory_bytes AS host_memory_bytes, r.engine_name, r.engine_version "
        "FROM runs r JOIN hosts h ON h.id = r.host_id ORDER BY r.started_at DESC"
    ),
    "daily_totals": (
        "SELECT d.day, t.project, count(DISTINCT d.test_id) AS tests, sum(d.attempts) AS attempts, "
        "sum(d.failed + d.timeout + d.oom + d.crashed) AS failed_attempts, sum(d.flaky) AS flaky, "
        "sum(d.violations) AS violations, sum(d.cpu_seconds_sum) AS cpu_seconds, "
        "sum(d.test_seconds_sum) AS duration_seconds, max(d.memory_bytes_max) AS memory_peak_bytes "
        "FROM daily_usage d JOIN tests t ON t.id = d.test_id GROUP BY d.day, t.project ORDER BY d.day DESC"
    ),
}


def upgrade() -> None:
    for name in _OLD_VIEWS:
        op.execute(f"DROP VIEW {name}")
    _add_origins()
    op.create_table(
        "stale_days",
        sa.Column("day", sa.Text(), nullable=False, comment="A day (UTC), `2026-03-01`."),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_stale_days")),
        comment="Days whose attempts are not all in daily_usage yet: today, and what came late.",
    )
    _create_daily_usage()
    started = "started_at" if _sqlite() else "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    op.execute(f"INSERT INTO stale_days (day) SELECT DISTINCT substr({started}, 1, 10) FROM attempts")
    for name, query in _VIEWS.items():
        op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {_in_dialect(query)}")


def _sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def _in_dialect(query: str) -> str:
    entry = r"json_extract(r.counts, '$.\1')" if _sqlite() else r"(r.counts ->> '\1')::bigint"
    return re.sub(r"COUNT_OF[(](\w+)[)]", entry, query)


def _add_origins() -> None:
    op.create_table(
        "identity",
        sa.Column(
            "id",
            sa.Text(),
            nullable=False,
            comment="UUID: tells where runs and daily figures come from once databases are merged.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity")),
        comment="Which database this is: one row.",
    )
    connection = op.get_bind()
    # the same each time that a copy of one database is brought up to date
    oldest = connection.exec_driver_sql("SELECT id FROM runs ORDER BY started_at, id LIMIT 1").scalar()
    mine = uuid.uuid4() if oldest is None else uuid.uuid5(_NAMESPACE, f"database of {oldest}")
    connection.execute(sa.text("INSERT INTO identity (id) VALUES (:id)"), {"id": str(mine)})
    op.add_column(
        "runs",
        sa.Column(
            "origin", sa.Text, comment="identity.id of the database it was merged from; NULL: recorded here."
        ),
    )
    op.add_column(
        "runs",
        sa.Column(
            "samples_kept",
            sa.Text,
            nullable=False,
            server_default="full",
            comment="Of the time series of its attempts: full, thinned or none.",
        ),
    )


def _count(name: str, comment: str) -> "sa.Column[object]":
    return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)


def _figure_columns(name: str, what: str) -> "list[sa.Column[object]]":
    return [
        _count(f"{name}_count", f"Judged attempts with this figure: {what}."),
        sa.Column(f"{name}_sum", sa.Double(), comment="Sum over them; NULL: there are none."),
        sa.Column(f"{name}_min", sa.Double(), comment="Lowest of them."),
        sa.Column(f"{name}_max", sa.Double(), comment="Highest of them."),
        sa.Column(
            f"{name}_sketch", sa.LargeBinary(), comment="How they are spread, within 0.05 % (see sketch.py)."
        ),
    ]


def _create_daily_usage() -> None:
    op.create_table(
        "daily_usage",
        sa.Column("test_id", sa.Text(), nullable=False, comment="The test."),
        sa.Column("day", sa.Text(), nullable=False, comment="The day (UTC) its attempts began on, `2026-03-01`."),
        sa.Column(
            "origin",
            sa.Text(),
            nullable=False,
            comment="identity.id of the database that recorded them; empty: this one.",
        ),
        _count("attempts", "Attempts of that day."),
        _count("flaky", "Results that passed and failed in one run."),
        _count("violations", "Budgets broken by deciding attempts."),
        *(_count(name, f"Attempts that ended as {name}.") for name in _OUTCOMES),
        *(column for name, what in _FIGURES.items() for column in _figure_columns(name, what)),
        sa.ForeignKeyConstraint(
            ["test_id"], ["tests.id"], name=op.f("fk_daily_usage_test_id_tests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("test_id", "day", "origin", name=op.f("pk_daily_usage")),
        comment="Each test's attempts of a day, summed up; kept when the attempts themselves are gone.",
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_daily_usage_day"), "daily_usage", ["day"], unique=False)

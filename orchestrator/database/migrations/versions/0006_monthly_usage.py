"""Sums of months; the index of figures knows which attempts decided, and which results were flaky; failing tests
are found from the tests, not from a million attempts.

Months are put together by the next upkeep; until then reports read their days.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INDEX = "ix_attempts_figures"
_INDEXED = (
    "test_id",
    "started_at",
    "outcome",
    "test_seconds",
    "cpu_seconds",
    "memory_peak_bytes",
    "limit_memory_bytes",
    "is_final",
    "is_flaky",
)
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


_FAILING_TESTS = (
    "SELECT t.project, t.path || coalesce('::' || t.case_name, '') AS test, a.test_outcome AS outcome, a.message, "
    "a.profile, a.started_at, substr(a.run_id, 1, 8) AS run FROM tests t JOIN attempts a ON a.test_id = t.id "
    "AND a.started_at = (SELECT newest.started_at FROM attempts newest WHERE newest.test_id = t.id "
    "AND newest.is_final ORDER BY newest.started_at DESC LIMIT 1) "
    "WHERE a.is_final AND a.test_outcome NOT IN ('passed', 'skipped') ORDER BY a.started_at DESC"
)


def upgrade() -> None:
    op.execute("DROP VIEW failing_tests")
    op.execute(f"CREATE VIEW failing_tests AS {_FAILING_TESTS}")
    op.drop_index(_INDEX, table_name="attempts")
    op.create_index(_INDEX, "attempts", list(_INDEXED), unique=False)
    op.create_table(
        "monthly_usage",
        sa.Column("test_id", sa.Text(), nullable=False, comment="The test."),
        sa.Column("month", sa.Text(), nullable=False, comment="The month (UTC), `2026-03`."),
        *(column for name, what in _FIGURES.items() for column in _figure_columns(name, what)),
        sa.ForeignKeyConstraint(
            ["test_id"], ["tests.id"], name=op.f("fk_monthly_usage_test_id_tests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("test_id", "month", name=op.f("pk_monthly_usage")),
        comment="Sums of days put together by month; made from daily_usage, and made anew when that changes.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "summed_months",
        sa.Column("month", sa.Text(), nullable=False, comment="A month (UTC), `2026-03`."),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_summed_months")),
        comment="Months that are in monthly_usage.",
    )


def _figure_columns(name: str, what: str) -> "list[sa.Column[object]]":
    return [
        sa.Column(
            f"{name}_sum",
            sa.Double(),
            comment=f"Sum over judged attempts with this figure: {what}; NULL: there are none.",
        ),
        sa.Column(
            f"{name}_maxima",
            sa.LargeBinary(),
            comment="Highest of each day that has it, in order: eight bytes each (IEEE 754, lowest first).",
        ),
        sa.Column(
            f"{name}_sketch", sa.LargeBinary(), comment="How they are spread, within 0.05 % (see sketch.py)."
        ),
    ]

"""Record the memory that a test itself needed separately from all memory that was charged while it ran."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FIGURES = [
    "test_id",
    "started_at",
    "outcome",
    "test_seconds",
    "cpu_seconds",
    "memory_peak_bytes",
    "memory_peak_is_upper_bound",
    "limit_memory_bytes",
    "is_final",
    "is_flaky",
]


def upgrade() -> None:
    op.add_column(
        "attempts",
        sa.Column("memory_charged_peak_bytes", sa.BigInteger),
    )
    op.add_column(
        "attempts",
        sa.Column("page_cache_bytes", sa.BigInteger),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "memory_peak_is_lower_bound",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
        ),
    )
    op.execute(
        "UPDATE attempts SET memory_charged_peak_bytes = memory_peak_bytes, memory_peak_bytes = CASE"
        " WHEN memory_peak_bytes > coalesce(memory_floor_bytes, 0)"
        " THEN memory_peak_bytes - coalesce(memory_floor_bytes, 0) ELSE 0 END"
        " WHERE memory_peak_bytes IS NOT NULL"
    )
    # The peak of a forked test included what its runner set up before the test.
    op.execute(
        "UPDATE attempts SET memory_peak_is_upper_bound = true"
        " WHERE launch = 'forked' AND memory_peak_bytes IS NOT NULL"
    )
    op.drop_index("ix_attempts_figures", table_name="attempts")
    op.create_index("ix_attempts_figures", "attempts", _FIGURES, unique=False)
    _sum_up_again()


def _sum_up_again() -> None:
    """Recompute the sums of the days whose attempts are all still stored; older sums stay as they are."""
    sqlite = op.get_context().dialect.name == "sqlite"
    started = "started_at" if sqlite else "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    of_attempts = f"SELECT substr({started}, 1, 10) AS day, count(*) AS number FROM attempts GROUP BY 1"
    of_days = "SELECT day, sum(attempts) AS number FROM daily_usage GROUP BY day"
    op.execute(
        f"DELETE FROM daily_usage WHERE day IN (SELECT a.day FROM ({of_attempts}) AS a"
        f" JOIN ({of_days}) AS d ON d.day = a.day AND d.number = a.number)"
    )
    op.execute(
        f"INSERT INTO stale_days (day) SELECT a.day FROM ({of_attempts}) AS a"
        " WHERE a.day NOT IN (SELECT day FROM daily_usage) AND a.day NOT IN (SELECT day FROM stale_days)"
    )
    op.execute("DELETE FROM monthly_usage")
    op.execute("DELETE FROM summed_months")

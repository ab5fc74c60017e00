"""What was charged before a test was released, beside its peak of memory."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COMMENTS = (
    (
        "attempts",
        "memory_peak_is_upper_bound",
        "True where it was as high before the test and could not be reset.",
    ),
    ("fact_sheets", "kind", "usage (sources, missing, bounds, overheads, disagreements) or attestation."),
)


def upgrade() -> None:
    op.add_column(
        "attempts",
        sa.Column(
            "memory_floor_bytes",
            sa.BigInteger,
            comment="Of the peak, what was charged before the test was released: the agent, the runtime's start.",
        ),
    )
    if op.get_context().dialect.name == "postgresql":  # SQLite keeps no comments
        for table, column, comment in _COMMENTS:
            quoted = comment.replace("'", "''")
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{quoted}'")

"""Whether a test had its container to itself, and how it was started there."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "attempts",
        sa.Column(
            "slot_position",
            sa.BigInteger,
            nullable=False,
            server_default="1",
            comment="1 for the first test of its container, 2 for the second, …",
        ),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "launch",
            sa.Text,
            nullable=False,
            server_default="process",
            comment="process: the test was a program of its own; forked: from a runner started before.",
        ),
    )

"""Record what a test left or changed in its container: `reuse: auto` gives such a test a fresh one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("unclean", sa.Text))
    op.create_index(
        "ix_attempts_unclean",
        "attempts",
        ["test_id", "started_at", "unclean"],
        unique=False,
        sqlite_where=sa.text("unclean IS NOT NULL"),
        postgresql_where=sa.text("unclean IS NOT NULL"),
    )

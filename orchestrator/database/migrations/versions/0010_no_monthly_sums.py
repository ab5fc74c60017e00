"""Drop the sums of months: reports read the sums of days, from which those of months were made."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("monthly_usage")
    op.drop_table("summed_months")

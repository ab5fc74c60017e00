"""Violations know their attempt's test and time, so that a report of a year reads them alone; an index of the
attempts that did not pass.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_RECENT_VIOLATIONS = (
    "SELECT v.started_at, v.severity, v.kind, t.project, t.path || coalesce('::' || t.case_name, '') AS test, "
    "v.measured, v.limit_value AS allowed, v.unit, v.message, a.profile, substr(a.run_id, 1, 8) AS run "
    "FROM violations v JOIN attempts a ON a.id = v.attempt_id JOIN tests t ON t.id = v.test_id "
    "WHERE v.is_final ORDER BY v.started_at DESC"
)
_ADDED = (
    (
        "test_id",
        sa.Text(),
        "tests.id of the attempt. This and the next two are as in its attempt, to be read without it.",
    ),
    ("started_at", sa.DateTime(timezone=True), "When the attempt's test was released."),
    ("is_final", sa.Boolean(), "Whether the attempt decided the test's result in its run."),
)


def upgrade() -> None:
    op.execute("DROP VIEW recent_violations")
    op.drop_index("ix_violations_kind", table_name="violations")
    for name, kind, comment in _ADDED:
        op.add_column("violations", sa.Column(name, kind, comment=comment))
    op.execute(
        "UPDATE violations SET (test_id, started_at, is_final) = "
        "(SELECT a.test_id, a.started_at, a.is_final FROM attempts a WHERE a.id = violations.attempt_id)"
    )
    with op.batch_alter_table("violations") as batch:
        for name, kind, comment in _ADDED:
            batch.alter_column(name, existing_type=kind, existing_comment=comment, nullable=False)
    op.create_index(op.f("ix_violations_started_at"), "violations", ["started_at"], unique=False)
    op.create_index(
        "ix_attempts_not_passed",
        "attempts",
        ["test_id", "started_at", "outcome"],
        unique=False,
        sqlite_where=sa.text("outcome != 'passed'"),
        postgresql_where=sa.text("outcome != 'passed'"),
    )
    op.execute(f"CREATE VIEW recent_violations AS {_RECENT_VIOLATIONS}")

"""Run Alembic's revisions on the connection that `migrate.run_alembic` hands over.

To write a revision, copy the newest file in `versions`, give it the next number, and raise
`version.SCHEMA_VERSION`. Alter tables with `op.batch_alter_table`, because SQLite alters a table by copying it.
Drop the views before and create them afterwards, because SQLite refuses to rename a table that a view reads. Leave
out comments: `migrate.write_comments` stores them. A unit test compares the result with `schema.metadata`.
"""

from alembic import context

from orchestrator.database.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()

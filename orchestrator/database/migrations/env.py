"""Alembic's entry: runs revisions on the connection that `migrate.run_alembic` hands over.

Writing one: copy the newest file in `versions`, number it one higher, raise `version.SCHEMA_VERSION`. Alter
tables with `op.batch_alter_table`, since SQLite alters by copying; drop the views first and create them again
afterwards, since SQLite refuses to rename a table that a view reads. A unit test compares the result with
`schema.metadata`.
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

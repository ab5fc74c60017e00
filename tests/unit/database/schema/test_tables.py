import re
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.database.files import migrate
from orchestrator.database.files.connect import WRITE, make_engine
from orchestrator.database.schema import tables as schema
from orchestrator.database.schema.page import schema_markdown
from orchestrator.database.schema.version import SCHEMA_VERSION
from orchestrator.database.schema.views import VIEWS
from orchestrator.database.store.store import Database
from tests.support.handmade import plain_sqlite

ROOT = Path(__file__).parents[4]


def ddl(path):
    """Name -> DDL; the order of columns and constraints inside a table does not matter: one that was added later
    stands at the end.
    """
    with plain_sqlite(path) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        marks = [connection.execute(f"PRAGMA {p}").fetchone() for p in ("user_version", "application_id")]
    # batch mode renames the table it has made, and SQLite quotes that name
    found = [(name, sql.replace(f'CREATE TABLE "{name}"', f"CREATE TABLE {name}")) for name, sql in found]
    parts = {
        name: re.split(
            r",?\s*\n\s*|, (?=\w+ (?:BIGINT|TEXT|DOUBLE|BOOLEAN|DATETIME|JSON|BLOB))", re.sub(r"[ \t]+", " ", sql)
        )
        for name, sql in found
    }
    tables = {
        name: sorted(part.removesuffix(")").removeprefix(") ").strip() for part in texts)
        for name, texts in parts.items()
    }
    return {name: [part for part in texts if part] for name, texts in tables.items()}, marks


def upgraded(path):
    """Return a database that Alembic alone has created."""
    engine = make_engine(sa.URL.create("sqlite", database=str(path)))
    with engine.connect().execution_options(**WRITE) as connection, connection.begin():
        migrate.run_alembic(connection)
        migrate.mark_sqlite(connection)
    return engine


def test_alembic_from_nothing_makes_the_very_same_schema(tmp_path):
    with Database.open(None, state_dir=tmp_path) as database:
        created = ddl(database.path)
    upgraded(tmp_path / "alembic.db").dispose()
    assert ddl(tmp_path / "alembic.db") == created


def test_alembic_sees_no_difference_to_the_metadata(tmp_path):
    engine = upgraded(tmp_path / "alembic.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_schema_version():
    scripts = ScriptDirectory(str(Path(migrate.__file__).parents[1] / "migrations"))
    assert scripts.get_current_head() == migrate.revision(SCHEMA_VERSION)
    assert len(scripts.get_heads()) == 1


def test_every_table_column_and_view_says_what_it_is():
    for table in schema.metadata.tables.values():
        assert table.comment, table.name
        assert [c.name for c in table.columns if not c.comment] == []
    assert all(view.comment for view in VIEWS)


def test_the_committed_page_is_current():
    page = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    assert page == schema_markdown(), "run: python -m orchestrator.database.schema.page > docs/schema.md"


def test_the_schema_can_be_written_for_postgresql_too():
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    schema.tell_postgresql()
    dialect = postgresql.dialect()
    for table in schema.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
    final = next(i for i in schema.attempts.indexes if i.name == "uq_attempts_final")
    assert "WHERE is_final" in str(CreateIndex(final).compile(dialect=dialect))

"""Which projects a database knows, and whose rows a question is about (docs/design/projects.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.schema import projects, runs, tests
from orchestrator.database.upserts import add_new
from orchestrator.model_reports import ProjectRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.database.store import Database


def known_projects(db: Database) -> tuple[ProjectRow, ...]:
    """All of them, by name."""
    with db.reading() as connection:
        return all_projects(connection)


def all_projects(connection: sa.Connection) -> tuple[ProjectRow, ...]:
    """As `known_projects`."""
    query = sa.select(projects.c.id, projects.c.name).order_by(projects.c.name, projects.c.id)
    return tuple(ProjectRow(id=id_, name=name) for id_, name in connection.execute(query))


def scope(connection: sa.Connection, project: str | None) -> str | None:
    """The project by which a question of `project` is to be filtered; None: by none, for there is no other, or
    `project` is None. Of the only project in a database whoever asks is told: a file from elsewhere was named.
    """
    if project is None:
        return None
    known = connection.execute(sa.select(projects.c.id).limit(2)).scalars().all()
    return None if len(known) < 2 else project


def tests_of(column: sa.ColumnElement[Any], project: str | None) -> list[sa.ColumnElement[bool]]:
    """Conditions for a column of keys of tests: they are of this project. None: of any."""
    if project is None:
        return []
    return [column.in_(sa.select(tests.c.id).where(tests.c.project_id == project))]


def note_names(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store projects; of one that is there the name that was used last, whoever comes first."""
    add_new(connection, projects, rows)
    for row in rows:
        newer = sa.or_(
            projects.c.named_at < row["named_at"],
            sa.and_(projects.c.named_at == row["named_at"], projects.c.name > row["name"]),
        )
        change = {"name": row["name"], "named_at": row["named_at"]}
        connection.execute(projects.update().where(projects.c.id == row["id"], newer).values(**change))


def forget_unused(connection: sa.Connection) -> None:
    """Projects that nothing is left of."""
    ran = sa.exists().where(runs.c.project_id == projects.c.id)
    known = sa.exists().where(tests.c.project_id == projects.c.id)
    connection.execute(projects.delete().where(~ran, ~known))

"""Read and store the projects of a database, and choose the project to which a query is limited
(docs/design/database/projects.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows.upserts import insert_missing
from orchestrator.database.schema.tables import projects, runs, tests
from orchestrator.model.stored import ProjectRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def all_projects(connection: sa.Connection) -> tuple[ProjectRow, ...]:
    """Return all projects of the database, by name."""
    query = sa.select(projects.c.id, projects.c.name).order_by(projects.c.name, projects.c.id)
    return tuple(ProjectRow(id=id_, name=name) for id_, name in connection.execute(query))


def scope(connection: sa.Connection, project: str | None) -> str | None:
    """Return the id of the project to which a query about `project` is limited. None: the query is not limited,
    because `project` is None or the database has only one project. A file with one other project is reported
    whole, because the user named it.
    """
    if project is None:
        return None
    known = connection.execute(sa.select(projects.c.id).limit(2)).scalars().all()
    return None if len(known) < 2 else project


def store_projects(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store projects. A project that is already stored gets the name that was used last, whatever the order of
    calls.
    """
    insert_missing(connection, projects, rows)
    for row in rows:
        newer = sa.or_(
            projects.c.named_at < row["named_at"],
            sa.and_(projects.c.named_at == row["named_at"], projects.c.name > row["name"]),
        )
        change = {"name": row["name"], "named_at": row["named_at"]}
        connection.execute(projects.update().where(projects.c.id == row["id"], newer).values(**change))


def delete_unused(connection: sa.Connection) -> None:
    """Delete projects without runs and tests."""
    ran = sa.exists().where(runs.c.project_id == projects.c.id)
    known = sa.exists().where(tests.c.project_id == projects.c.id)
    connection.execute(projects.delete().where(~ran, ~known))

"""Which projects a database knows, and whose rows a question is about (docs/design/projects.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.database.rows.upserts import insert_missing
from orchestrator.database.schema.tables import projects, runs, tests
from orchestrator.model.stored import ProjectRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def all_projects(connection: sa.Connection) -> tuple[ProjectRow, ...]:
    """All projects of the database, by name."""
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


def store_projects(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store projects; of one that is there the name that was used last, whoever comes first."""
    insert_missing(connection, projects, rows)
    for row in rows:
        newer = sa.or_(
            projects.c.named_at < row["named_at"],
            sa.and_(projects.c.named_at == row["named_at"], projects.c.name > row["name"]),
        )
        change = {"name": row["name"], "named_at": row["named_at"]}
        connection.execute(projects.update().where(projects.c.id == row["id"], newer).values(**change))


def delete_unused(connection: sa.Connection) -> None:
    """Projects that nothing is left of."""
    ran = sa.exists().where(runs.c.project_id == projects.c.id)
    known = sa.exists().where(tests.c.project_id == projects.c.id)
    connection.execute(projects.delete().where(~ran, ~known))

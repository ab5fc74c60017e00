"""List the projects of a database (docs/design/database/projects.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.database.rows.projects import all_projects

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database
    from orchestrator.model.stored import ProjectRow


def known_projects(db: Database) -> tuple[ProjectRow, ...]:
    """Return all projects of the database, by name."""
    with db.reading() as connection:
        return all_projects(connection)

"""What a fresh container cost earlier tests before they ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.database.store.glance import STARTUPS, median_startup

if TYPE_CHECKING:
    from orchestrator.database.store.store import Database


def startup_seconds(db: Database) -> tuple[float, int] | None:
    """Median of creation and start of the newest 200 containers, and of how many there are; None: of none."""
    with db.reading() as connection:
        return median_startup(connection.scalars(sa.text(STARTUPS)).all())

"""What a fresh container cost earlier tests before they ran."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.database.schema import attempts

if TYPE_CHECKING:
    from orchestrator.database.store import Database

_NEWEST = 200


def startup_seconds(db: Database) -> tuple[float, int] | None:
    """Median of creation and start of the newest 200 containers, and of how many there are; None: of none."""
    query = (
        sa.select((attempts.c.create_seconds + attempts.c.start_seconds).label("seconds"))
        .where(attempts.c.slot_position == 1, attempts.c.start_seconds > 0)
        .order_by(attempts.c.started_at.desc())
        .limit(_NEWEST)
    )
    with db.reading() as connection:
        found = [row.seconds for row in connection.execute(query)]
    return (median(found), len(found)) if found else None

"""Column kinds of the schema: each with a comment, and times that are always UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A moment in UTC. In SQLite it is text, `2026-03-01 12:00:00.000000`, which sorts as time does."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite keeps no zone, so it gets none."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone cannot be stored: {value}")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Back to an aware time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def uuid_key(comment: str) -> sa.Column[Any]:
    """Primary key `id`: a UUID as text, so that databases of shards merge without renumbering."""
    return sa.Column("id", sa.Text, primary_key=True, comment=comment)


def reference(name: str, target: str, comment: str, *, primary_key: bool = False) -> sa.Column[Any]:
    """A foreign key whose rows go when the row they belong to goes."""
    key = sa.ForeignKey(target, ondelete="CASCADE")
    return sa.Column(name, sa.Text, key, primary_key=primary_key, nullable=False, comment=comment)


def text(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[Any]:
    """A string."""
    return sa.Column(name, sa.Text, nullable=nullable, primary_key=primary_key, comment=comment)


def count(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[Any]:
    """A whole number: bytes, a count, a code."""
    return sa.Column(name, sa.BigInteger, nullable=nullable, primary_key=primary_key, comment=comment)


def real(name: str, comment: str, *, nullable: bool = False) -> sa.Column[Any]:
    """A number: seconds, a ratio, CPUs."""
    return sa.Column(name, sa.Double, nullable=nullable, comment=comment)


def flag(name: str, comment: str, *, nullable: bool = False) -> sa.Column[Any]:
    """True or false; 1 or 0 in SQLite."""
    return sa.Column(name, sa.Boolean, nullable=nullable, comment=comment)


def moment(name: str, comment: str, *, nullable: bool = False) -> sa.Column[Any]:
    """A time, UTC."""
    return sa.Column(name, UtcDateTime, nullable=nullable, comment=comment)


def json(name: str, comment: str, *, nullable: bool = True) -> sa.Column[Any]:
    """JSON text; SQL NULL where there is nothing, never the word null."""
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable, comment=comment)


def blob(name: str, comment: str, *, nullable: bool = True) -> sa.Column[Any]:
    """Bytes: JSON compressed with zlib (`encode.pack`)."""
    return sa.Column(name, sa.LargeBinary, nullable=nullable, comment=comment)

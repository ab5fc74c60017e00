"""Define the kinds of columns of the schema. Each has a comment, and times are always UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A time in UTC. In SQLite it is text, `2026-03-01 12:00:00.000000`, which sorts in order of time."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a time to UTC, without a zone for SQLite, which stores none. ValueError for a time without a
        zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone cannot be stored: {value}")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Convert a stored time to one with the zone UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def uuid_key(comment: str) -> sa.Column[Any]:
    """Return the primary key `id`: a UUID as text, so that databases of shards merge without renumbering."""
    return sa.Column("id", sa.Text, primary_key=True, comment=comment)


def reference(name: str, target: str, comment: str, *, primary_key: bool = False) -> sa.Column[Any]:
    """Return a foreign key; its rows are deleted with the row that they refer to."""
    key = sa.ForeignKey(target, ondelete="CASCADE")
    return sa.Column(name, sa.Text, key, primary_key=primary_key, nullable=False, comment=comment)


def text(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[Any]:
    """Return a text column."""
    return sa.Column(name, sa.Text, nullable=nullable, primary_key=primary_key, comment=comment)


def count(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[Any]:
    """Return an integer column: bytes, a count, a code."""
    return sa.Column(name, sa.BigInteger, nullable=nullable, primary_key=primary_key, comment=comment)


def real(name: str, comment: str, *, nullable: bool = False) -> sa.Column[Any]:
    """Return a floating-point column: seconds, a ratio, CPUs."""
    return sa.Column(name, sa.Double, nullable=nullable, comment=comment)


def flag(name: str, comment: str, *, nullable: bool = False) -> sa.Column[Any]:
    """Return a boolean column, 1 or 0 in SQLite."""
    return sa.Column(name, sa.Boolean, nullable=nullable, comment=comment)


def moment(name: str, comment: str, *, nullable: bool = False) -> sa.Column[Any]:
    """Return a column of times in UTC."""
    return sa.Column(name, UtcDateTime, nullable=nullable, comment=comment)


def json(name: str, comment: str, *, nullable: bool = True) -> sa.Column[Any]:
    """Return a JSON column. A missing value is SQL NULL, never the JSON word null."""
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable, comment=comment)


def blob(name: str, comment: str, *, nullable: bool = True) -> sa.Column[Any]:
    """Return a column of bytes: JSON compressed with zlib (see `encoding.pack`), or a quantile sketch."""
    return sa.Column(name, sa.LargeBinary, nullable=nullable, comment=comment)

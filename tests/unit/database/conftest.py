"""Run the same tests on a SQLite file and on a real PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.database.schema.tables import metadata
from orchestrator.database.store.store import Database
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Open = Callable[..., Database]

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a database with the schema."""
    url = postgres.create()
    Database.open(url, state_dir=tmp_path_factory.mktemp("postgres")).close()
    return url


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_database: str) -> Iterator[str]:
    """Return the URL of the shared database, and empty it after each test: creating one takes a second."""
    yield postgres_database
    tables = [table.name for table in reversed(metadata.sorted_tables) if table.name != "identity"]
    postgres.execute("; ".join(f"DELETE FROM {name}" for name in tables), postgres_database)


@pytest.fixture(params=BOTH)
def db_url(request: pytest.FixtureRequest) -> str | None:
    """Return None for the SQLite file in the state folder, or the URL of the PostgreSQL database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def open_database(db_url: str | None, tmp_path: Path) -> Open:
    """Return a function that opens the test's database; it may be called several times."""

    def opened(**options: Any) -> Database:
        return Database.open(db_url, state_dir=tmp_path / ".orch", **options)

    return opened


@pytest.fixture
def database(open_database: Open) -> Iterator[Database]:
    with open_database() as opened:
        yield opened


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """Yield a SQLite database, for tests of what only a file has."""
    with Database.open(None, state_dir=tmp_path / ".orch") as opened:
        yield opened

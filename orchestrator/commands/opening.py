"""Opens the project's resource database for a command."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.commands.session import load_with_database
from orchestrator.database.store import Database
from orchestrator.measure.processes import owner_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.config.settings import Config


@contextmanager
def opened(config_path: Path | None, database: str | None) -> Iterator[Database]:
    """The project's resource database."""
    with open_database(load_with_database(config_path, database)) as db:
        yield db


def open_database(config: Config) -> Database:
    """The resource database of a configuration that is loaded already."""
    return Database.open(config.database_url, state_dir=config.state_dir, owner_alive=owner_alive)


@contextmanager
def opened_for_report(config: Config) -> Iterator[Database]:
    """As `open_database`, with Python's collector of cycles at rest. A report reads up to a hundred thousand rows
    and keeps them to its end; the collector would look through them each time that a quarter more have come.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with open_database(config) as db:
            yield db
    finally:
        if collects:
            gc.enable()

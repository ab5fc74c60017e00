"""A real PostgreSQL server for tests: started once, in a folder of its own, reachable by a Unix socket only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


def program(name: str) -> str:
    """Return the path of one of the server's programs; fail if there is none. Debian does not put them on the
    PATH.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(installed[-1]) if installed else None)
    if found is None:
        pytest.fail(f"{name} is missing: install the package postgresql", pytrace=False)
    return found


class PostgresServer:
    """A server with a database for each test. It refuses to run as root, so root runs it as the user nobody."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="orch-pg-", dir="/tmp"))  # a socket's path must be short
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self._folder, "nobody", "nogroup")
        self._number = 0

    def __enter__(self) -> Self:
        data = str(self._folder / "data")
        options = f"-c listen_addresses='' -c fsync=off -c max_connections=40 -k {self._folder}"
        self._run(
            "initdb",
            "-D",
            data,
            "-U",
            "orch",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        self._run("pg_ctl", "-D", data, "-w", "-l", str(self._folder / "log"), "-o", options, "start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._folder)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [program(name), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            env={**os.environ, "HOME": str(self._folder)},
            timeout=60,
            **self._as,
        )

    def url(self, database: str = "postgres") -> str:
        """Return the URL for `--db`."""
        return f"postgresql://orch@/{database}?host={self._folder}"

    def create(self) -> str:
        """Create an empty database, which is removed with the server, and return its URL."""
        self._number += 1
        self.execute(f"CREATE DATABASE test_{self._number}", self.url())
        return self.url(f"test_{self._number}")

    @staticmethod
    def execute(statement: str, url: str) -> None:
        """Execute a statement outside a transaction."""
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

"""What commands set up in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.coordinator.session import load_with_database
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("database", ["some.db", "/var/lib/orch/nightly-1.db", "~/b.db", "sqlite:///x y.db"])
def test_the_database_of_the_command_line_is_a_setting_with_its_origin(database: str) -> None:
    config = load_with_database(None, database)
    assert (config.database_url, str(config.origins["database"])) == (database, "command line")
    assert load_with_database(None, None).database_url is None


def test_what_is_no_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="this is not a database"):
        load_with_database(None, "mysql")

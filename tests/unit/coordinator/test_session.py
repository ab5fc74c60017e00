"""What commands set up in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.config import remembered
from orchestrator.coordinator.session import load, load_with_database
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    return tmp_path


@pytest.mark.parametrize(
    "database", ["some.db", "/var/lib/orch/nightly-1.db", "./a", "~/b.db", "sqlite:///x y.db"]
)
def test_a_database_is_the_same_whether_it_is_read_or_put_in(database: str) -> None:
    assert load_with_database(None, database) == load(None, {"database": database})


def test_a_database_by_its_path_leaves_the_settings_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    load_with_database(None, "some.db")
    known: list[object] = []
    recall = remembered.recall

    def noting(key: str) -> object:
        known.append(recall(key))
        return known[-1]

    monkeypatch.setattr(remembered, "recall", noting)
    load_with_database(None, "other.db")
    assert known
    assert None not in known


def test_what_is_no_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="this is no database"):
        load_with_database(None, "mysql")

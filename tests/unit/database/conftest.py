import pytest

from orchestrator.database.store import Database


@pytest.fixture
def database(tmp_path):
    with Database.open(None, state_dir=tmp_path / ".orch") as opened:
        yield opened

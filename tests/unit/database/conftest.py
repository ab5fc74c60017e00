import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the examples beside these tests

from orchestrator.database.store import Database


@pytest.fixture
def database(tmp_path):
    with Database.open(None, state_dir=tmp_path / ".orch") as opened:
        yield opened

"""`orch db ...` as typed, on databases without an engine."""

import json

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch
from orchestrator.database.store.store import Database
from tests.unit.database.database_examples import days_ago, finish, make_result, make_run


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Runs a command in an empty project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles.yaml").write_text("version: 1\n", encoding="utf-8")

    def run(*words):
        return CliRunner().invoke(orch, ["db", *words])

    return run


def shard(folder, number):
    """A database with one run of so many tests."""
    with Database.open(None, state_dir=folder) as database:
        run = make_run(started_at=days_ago(2))
        database.begin_run(run, [])
        for n in range(number):
            database.record(run.id, make_result(run, f"{n}.py", started_at=days_ago(2)))
        finish(database, run)
    return str(folder / "resources.db")


def test_shards_are_merged_into_the_project_s_database(typed, tmp_path):
    files = [shard(tmp_path / "1", 2), shard(tmp_path / "2", 3)]
    first = typed("merge", *files)
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines() == [
        f"{files[0]}: 1 new run, 2 new attempts",
        f"{files[1]}: 1 new run, 3 new attempts",
    ]
    assert typed("merge", files[1]).stdout == f"{files[1]}: 0 new runs, 0 new attempts\n"
    told = json.loads(typed("info", "--format", "json").stdout)
    rows = {row["table"]: row["rows"] for row in told["tables"]}
    assert (rows["runs"], rows["attempts"], rows["daily_usage"]) == (2, 5, 5)
    assert told["database"][0]["first_day"] == days_ago(2).date().isoformat()
    assert told["database"][0]["size_bytes"] > 100_000


def test_merge_wants_files(typed):
    assert typed("merge").exit_code == 2


def test_path_and_vacuum(typed, tmp_path):
    place = str(tmp_path / ".orch" / "resources.db")
    assert typed("path").stdout == f"{place}\n"
    vacuumed = typed("vacuum")
    assert vacuumed.exit_code == 0
    assert vacuumed.stdout.startswith(f"{place}: ")
    assert vacuumed.stdout.endswith(" now\n")

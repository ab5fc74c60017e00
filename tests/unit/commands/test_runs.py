"""What `orch runs show` prints of names and messages that a test chose."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.commands.runs import runs_show
from orchestrator.database.store.store import Database
from tests.unit.database.database_examples import VIOLATION, finish, make_assignment, make_result, make_run


def test_names_and_messages_cannot_steer_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles.yaml").write_text("version: 1\n", encoding="utf-8")
    run = make_run()
    hostile = "test/\x1b[2J\nPASS.py"
    with Database.open(None, state_dir=tmp_path / ".orch") as database:
        database.begin_run(run, [make_assignment(run, hostile), make_assignment(run, "never\x9b.py")])
        violation = replace(VIOLATION, message="left \x1b]0;title\x07 running")
        database.record(run.id, make_result(run, hostile, violations=(violation,)))
        finish(database, run)
    runs_show(config_path=None, database=None, run_id="latest", output_format="table")
    said = capsys.readouterr().out
    assert not set(said) & {"\x1b", "\x07", "\x9b"}
    assert "warning: test/\\x1b[2J\\nPASS.py: left \\x1b]0;title\\x07 running" in said.splitlines()
    assert "not run: never\\x9b.py" in said.splitlines()

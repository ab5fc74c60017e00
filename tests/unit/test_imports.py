"""Modules that a fast command must not import. They are counted, because a time would depend on the machine."""

import subprocess
import sys

import pytest

HEAVY = {"sqlalchemy", "alembic", "docker", "pydantic", "yaml", "rich", "psutil", "requests", "jinja2"}
PROGRAM = """
import sys
from orchestrator.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end
print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(*words):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("run", "--help"), ("db", "path", "--help")])
def test_help_imports_nothing_but_click(words):
    modules = imported(*words)
    assert "click" in modules
    assert not modules & HEAVY
    ours = {name for name in modules if name.startswith("orchestrator.")}
    assert ours == {
        "orchestrator.cli",
        *(
            f"orchestrator.cli.{name}"
            for name in ("configuration", "machine", "options", "program", "results", "running")
        ),
        "orchestrator.errors",
        "orchestrator.model",
        "orchestrator.model.resources",
    }


def test_a_database_file_needs_no_other_database_s_dialect(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    modules = imported("db", "path", "--db", str(tmp_path / "a.db"))
    assert "sqlalchemy.dialects.sqlite" in modules
    assert not {name for name in modules if name.startswith("sqlalchemy.dialects.postgresql")}


def test_a_list_of_tests_needs_no_database_and_no_engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles.yaml").write_text(
        'version: 1\nsuites:\n  - {name: sh, match: ["*.sh"], runner: shell}\n'
    )
    (tmp_path / "a.sh").touch()
    assert not imported("list") & {"sqlalchemy", "alembic", "docker", "rich", "jinja2"}


def test_a_plan_looks_at_the_history_without_opening_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles.yaml").write_text(
        'version: 1\nsuites:\n  - {name: sh, match: ["*.sh"], runner: shell}\n'
    )
    (tmp_path / "a.sh").touch()
    for _ in range(2):
        assert not imported("plan") & {"sqlalchemy", "alembic"}
        imported("db", "vacuum")  # makes it
        (tmp_path / ".orch" / "project").write_text("a\n")  # as a run keeps it; without it the database is asked
        assert (tmp_path / ".orch" / "resources.db").exists()

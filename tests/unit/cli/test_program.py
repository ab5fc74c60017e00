"""`orch --help`: the sections with their commands."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch


def help_of(*words: str) -> str:
    result = CliRunner().invoke(orch, [*words, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.output


def test_each_command_is_listed_once_with_a_whole_sentence() -> None:
    commands = help_of().partition("Run tests:")[2]
    lines = [line for line in commands.splitlines() if line.startswith("  ")]
    assert sorted(line.split()[0] for line in lines) == sorted(orch.commands)
    assert [line for line in lines if not line.endswith(".") or "..." in line] == []


@pytest.mark.parametrize("group", ["runs", "db", "profiles"])
def test_the_commands_of_a_group_are_not_cut_short(group: str) -> None:
    assert "..." not in help_of(group).partition("Commands:")[2]

"""Options that several commands share, and their headings in the help of a command with many options."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import orch

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = (
    "--config",
    "--db",
    "--engine",
    "--until",
    "--filter",
    "--shard",
    "--jobs",
    "--retries",
    "--offline-base",
)


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from commands(command)
        else:
            yield command


def test_a_shared_option_has_one_help_text() -> None:
    texts: dict[str, set[str | None]] = defaultdict(set)
    for command in commands(orch):
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                for name in option.opts:
                    texts[name].add(option.help)
    assert {name: len(texts[name]) for name in SHARED} == dict.fromkeys(SHARED, 1)


def test_each_option_has_a_help_text() -> None:
    without = [
        (command.name, option.name)
        for command in commands(orch)
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert without == []


@pytest.mark.parametrize("name", ["run", "plan", "list"])
def test_a_command_with_many_options_lists_each_below_one_heading(name: str) -> None:
    text = CliRunner().invoke(orch, [name, "--help"]).output
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith((" ", "Usage"))]
    assert headings[0] == "Selection:"
    assert headings[-1] == "Other options:"
    assert len(set(headings)) == len(headings)
    for option in orch.commands[name].params:
        if isinstance(option, click.Option):
            assert sum(f"{option.opts[-1]} " in line for line in text.splitlines() if line.startswith("  -")) == 1


def test_a_default_in_words_has_no_parentheses() -> None:
    assert "[default: 7d; for --html and --prometheus 24h]" in " ".join(
        CliRunner().invoke(orch, ["report", "--help"]).output.split()
    )

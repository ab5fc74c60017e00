"""`orch help TOPIC`: the pages that belong to no command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch
from orchestrator.commands.help import TOPICS
from orchestrator.config.layers.sources import ENVIRONMENT
from orchestrator.errors import ExitCode


def test_the_environment_page_names_each_variable_that_sets_something() -> None:
    words = TOPICS["environment"].replace(",", " ").split()
    assert set(ENVIRONMENT) - set(words) == set()


def test_the_exit_codes_page_has_each_exit_code() -> None:
    lines = TOPICS["exit-codes"].splitlines()
    assert {line.split()[0] for line in lines if line[:1].isdigit()} == {
        *(str(code.value) for code in ExitCode),
        "128+N",
    }


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_page_fits_a_terminal_and_the_list_of_pages_names_it(topic: str) -> None:
    result = CliRunner().invoke(orch, ["help", topic])
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 115
    assert f" {topic}" in CliRunner().invoke(orch, ["help"]).output.rpartition("Topics:")[2]


def test_an_unknown_topic_is_refused_with_those_that_exist() -> None:
    error = CliRunner().invoke(orch, ["help", "nonsense"]).exception
    assert "there is no command or topic 'nonsense'" in str(error)
    assert "exit-codes" in str(getattr(error, "remedy", ""))

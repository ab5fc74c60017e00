"""Workflows and templates: what schema checkers cannot check."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import orch

ROOT = Path(__file__).parents[2]
GITHUB = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / "action.yml", ROOT / "examples/ci/github.yml"]
EVERY = [*GITHUB, ROOT / ".gitlab-ci.yml", ROOT / "examples/ci/gitlab.yml"]


def steps_of(path):
    found = yaml.safe_load(path.read_text())
    if "runs" in found:
        return found["runs"]["steps"]
    return [step for job in found["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    for step in steps_of(path):
        assert "uses" not in step or re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"])


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_no_expression_becomes_shell_text_and_the_scripts_are_clean(path):
    for step in steps_of(path):
        if script := step.get("run"):
            assert "${{" not in script
            checked = subprocess.run(
                ["shellcheck", "--shell=bash", "-"],
                input=script,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", EVERY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_and_options_exist(path):
    text = path.read_text()
    for line in re.findall(r"(?:bin/)?orch (?:run|report|db merge) [^\n>;]*", text):
        words = line.partition("orch ")[2].split()
        command = orch.commands[words[0]]
        if words[0] == "db":
            command = command.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_the_action_runs_what_it_was_told(tmp_path):
    (script,) = [step["run"] for step in steps_of(ROOT / "action.yml") if step.get("id") == "run"]
    program = tmp_path / "orch-venv/bin/orch"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done >words\nexit 3\n')
    program.chmod(0o755)
    environ = {
        "PATH": "/usr/bin:/bin",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "OUTPUT": "out put",
        "SHARD": "auto",
        "SHARD_BY": "time",
        "ARGUMENTS": "--profile\nstandard\n\ntest/a b; $(touch broken)\n",
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], env=environ, cwd=tmp_path, timeout=30, check=False
    )
    assert done.returncode == 3
    assert (tmp_path / "output").read_text() == "exit-code=3\n"
    words = (tmp_path / "words").read_text().splitlines()
    assert words[0] == "run"
    assert words[-5:] == ["--shard-by", "time", "--profile", "standard", "test/a b; $(touch broken)"]
    assert "out put/junit.xml" in words
    assert not (tmp_path / "broken").exists()
    known = {option for parameter in orch.commands["run"].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, shlex.join(words)

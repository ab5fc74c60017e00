from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.loader import load_config
from orchestrator.config.writing.template import template
from orchestrator.errors import UsageError
from tests.support.configuration import load_text

ROOT = Path(__file__).parents[4]


def test_the_template_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    built_in = load_config(path=None, start=tmp_path, env={})
    text = template(tmp_path)
    written = load_text(tmp_path, text)
    assert written is not None
    assert dict(written.profiles) == dict(built_in.profiles)
    assert written.suites == built_in.suites
    assert text.startswith("# yaml-language-server: $schema=")
    assert max(map(len, text.splitlines())) <= 130


def test_what_the_template_comments_out_is_valid_too(tmp_path: Path) -> None:
    lines = []
    for line in template(tmp_path).splitlines():
        yaml = line.removeprefix("#  - {")
        lines.append("  - {" + yaml if yaml != line else line)
    text = "\n".join(lines).replace("# suites:\n#   -", "suites:\n  -").replace("\n#   -", "\n  -")
    text = text.replace("# run:", "run:").replace("\n#   ", "\n  ")
    config = load_text(tmp_path, text)
    assert config is not None
    assert len(config.rules) == 3
    assert [suite.name for suite in config.suites] == ["pytest", "shell", "own"]
    assert (config.run.retries, config.run.violations) == (1, "fail")


def test_the_template_finds_the_projects_tests(tmp_path: Path) -> None:
    for path in (
        "checks/unit/test_a.py",
        "checks/deep/er/b_test.py",
        "scripts/x.test.sh",
        "test_root.py",
        "node_modules/p/test_x.py",
        ".hidden/test_y.py",
        "src/code.py",
        "odd[1]/test_z.py",
        'quote"d/test_q.py',
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    config = load_text(tmp_path, template(tmp_path))
    assert config is not None
    assert {suite.name: suite.match for suite in config.suites} == {
        "pytest": ("checks/**/*_test.py", "checks/**/test_*.py", "odd[[]1]/**/test_*.py", "test_*.py"),
        "shell": ("scripts/**/*.test.sh",),
    }


def test_no_folder_no_template(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        template(tmp_path / "absent")

"""The generated pages of docs/ match the code, and all links of the others exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from orchestrator.cli import orch
from orchestrator.config.schema.document import Document
from orchestrator.errors import ExitCode
from scripts import docs_pages

ROOT = Path(__file__).parents[2]
WRITTEN = [
    path
    for folder in ("", "docs/**/", "examples/**/", "docker/", "bench/**/")
    for path in ROOT.glob(f"{folder}*.md")
    if not {".orch", ".venv"} & set(path.relative_to(ROOT).parts)
]


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", sorted(docs_pages.PAGES))
def test_a_generated_page_is_current(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == docs_pages.PAGES[name](), "run: python scripts/docs_pages.py"


def test_every_command_and_option_is_on_the_page():
    page = docs_pages.cli_page()
    assert "`orch runs diff`" in page
    run = orch.commands["run"]
    for parameter in run.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.opts[-1] in page, parameter.name


def test_every_key_has_its_row_and_its_meaning():
    page = docs_pages.configuration_page()
    for key in Document.keys:
        assert re.search(rf"^\| `{key}` \| [^|]+ \| [^|]+ \| \S", page, re.MULTILINE), key
    assert "| `memory` | size | `512m` |" in page
    assert "| `memory` | `128m` | `512m` | `1g` | `4g` |" in page
    assert not re.search(r"^\|.*\|  \|$", page, re.MULTILINE), "a key without a meaning"


def test_help_keeps_its_example_lines():
    with click.Context(orch) as context:
        assert "\n    orch offenders  " in orch.get_help(context)


def test_the_readme_lists_every_exit_code():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"| {code.value} |" in readme, code


@pytest.mark.parametrize("path", WRITTEN, ids=ids)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" not in target, f"{target}: documents name no network hosts"
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", WRITTEN, ids=ids)
def test_files_that_are_named_exist(path):
    """Each path in backticks that begins with a folder of this repository exists."""
    folders = "orchestrator|docs|scripts|tests|docker|examples|requirements|bench"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (path.parent / name).exists(), name


def test_pages_that_the_code_names_exist():
    """A docstring or comment that refers to `docs/....md` names a page that is there."""
    folders = ("orchestrator", "tests", "bench", "scripts", "docker")
    sources = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".sh", ""}
    ]
    found = {
        (name, path.relative_to(ROOT).as_posix())
        for path in sources
        if path.is_file()
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert found
    assert not {pair for pair in found if not (ROOT / pair[0]).exists()}


def test_the_list_of_decisions_has_every_page():
    folder = ROOT / "docs" / "design"
    listed = set(re.findall(r"\]\(([^)#\s]+)", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} - {"README.md"}

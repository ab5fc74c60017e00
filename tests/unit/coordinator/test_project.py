"""A project's id: where it is kept, where it comes from, what is told of other projects (CASES B6)."""

from __future__ import annotations

import subprocess
import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from orchestrator.cli import orch
from orchestrator.config.loader import load_config
from orchestrator.coordinator.database import LazyDatabase, open_database
from orchestrator.coordinator.project import found_id, id_of_sources, keep_id, kept_id, scope_text
from orchestrator.database.queries.projects import known_projects
from orchestrator.database.queries.runs import list_runs
from orchestrator.database.queries.usage import usage_report
from orchestrator.database.store.store import Database
from orchestrator.errors import StateError, UsageError
from orchestrator.model.stored import ProjectRow
from tests.unit.database.database_examples import days_ago, finish, make_assignment, make_result, make_run

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.settings import Config


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of whoever runs the tests; no repository above."""
    for name in ("ORCH_CONFIG", "ORCH_STATE_DIR", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")


def project(folder: Path) -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "profiles.yaml").write_text("version: 1\n")
    return load_config(path=folder / "profiles.yaml", start=folder, env={}, overrides={})


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def repository(folder: Path, origin: str | None = None) -> Path:
    """With one commit, and its remote."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", folder.name)
    if origin is not None:
        git(folder, "remote", "add", "origin", origin)
    return folder


def recorded(config: Config, *, project_id: str, age: float = 1) -> None:
    """A run that passed, in the state folder's database."""
    with Database.open(None, state_dir=config.state_dir) as db:
        run = make_run(project=config.project_root.name, project_id=project_id, started_at=days_ago(age))
        db.begin_run(run, [])
        db.record(run.id, make_result(run, "a.py", started_at=days_ago(age)))
        finish(db, run)


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    config = project(tmp_path / "app")
    assert kept_id(config.state_dir) is None
    made = keep_id(config, None)
    assert str(uuid.UUID(made)) == made
    assert keep_id(config, "another") == kept_id(config.state_dir) == made
    assert [path.name for path in config.state_dir.iterdir()] == ["project"]


def test_of_two_first_runs_at_once_both_have_the_same(tmp_path: Path) -> None:
    config = project(tmp_path / "app")
    gate, found = threading.Barrier(8), []

    def first() -> None:
        gate.wait()
        found.append(keep_id(config, str(uuid.uuid4())))

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {kept_id(config.state_dir)}


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 201, b"a\0b"])
def test_a_file_that_holds_no_id_is_told_with_its_place(tmp_path: Path, content: bytes) -> None:
    config = project(tmp_path / "app")
    config.state_dir.mkdir()
    (config.state_dir / "project").write_bytes(content)
    with pytest.raises(StateError, match=r"\.orch/project"):
        kept_id(config.state_dir)


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    config = project(tmp_path / "app")
    config.state_dir.write_text("a file in its place")
    with pytest.raises(UsageError, match=r"\.orch/project"):
        keep_id(config, None)


def test_a_renamed_folder_keeps_its_history(tmp_path: Path) -> None:
    """B6: history, ranking and reports go on under the new name, as one project."""
    config = project(tmp_path / "before")
    recorded(config, project_id=keep_id(config, None), age=2)
    (tmp_path / "before").rename(tmp_path / "after")
    config = project(tmp_path / "after")
    with LazyDatabase(config, print) as late:
        test = make_assignment(make_run(), "a.py").test.id
        assert late.history([test])[test].attempts == 1
        kept = late.keep_project()
    recorded(config, project_id=kept)
    with open_database(config) as db:
        assert known_projects(db) == (ProjectRow(id=kept, name="after"),)
        assert [run.project for run in list_runs(db)] == ["after", "before"]
        assert {row.count for row in usage_report(db)} == {2}


@pytest.mark.parametrize("renamed", [False, True])
def test_a_database_from_before_ids_is_this_project_s(tmp_path: Path, renamed: bool) -> None:
    """Its only project, whatever the folder's name is by now; and in the first run, without an id file."""
    config = project(tmp_path / "app")
    recorded(config, project_id="app")
    if renamed:
        (tmp_path / "app").rename(tmp_path / "other")
        config = project(tmp_path / "other")
    with LazyDatabase(config, print) as late:
        assert late.keep_project() == "app"
    assert kept_id(config.state_dir) == "app"


def test_in_a_shared_database_sources_count_before_the_name(tmp_path: Path) -> None:
    root = repository(tmp_path / "app", "git@example.org:team/app.git")
    known, of_sources = project(root), id_of_sources(root)
    assert of_sources is not None
    shared = load_config(path=root / "profiles.yaml", start=root, env={}, overrides={"database": "x.db"})
    other = ProjectRow(id="other", name="other")
    old, new = ProjectRow(id="app", name="app"), ProjectRow(id=of_sources, name="app")
    assert found_id(known, ()) == of_sources
    assert found_id(known, (other,)) == "other"  # of its own database the only one
    assert found_id(shared, (other,)) == of_sources
    assert found_id(shared, (old, other)) == "app"
    assert found_id(shared, (old, other, new)) == of_sources


@pytest.mark.parametrize(
    "address",
    [
        "https://git.example.org/team/app.git",
        "https://user:secret@git.example.org/team/app",
        "https://GIT.example.org:8443/team/app.git/",
        "ssh://git@git.example.org:2222/team/app.git",
        "git@git.example.org:team/app.git",
        "git.example.org:/team/app",
    ],
)
def test_every_clone_of_a_remote_has_the_same_id(tmp_path: Path, address: str) -> None:
    first = repository(tmp_path / "one", "https://git.example.org/team/app")
    assert id_of_sources(repository(tmp_path / "two", address)) == id_of_sources(first)
    assert id_of_sources(repository(tmp_path / "three", f"{address}2")) != id_of_sources(first)


def test_a_folder_of_a_repository_is_a_project_of_its_own(tmp_path: Path) -> None:
    root = repository(tmp_path / "one", "https://git.example.org/team/app")
    (root / "part").mkdir()
    assert id_of_sources(root / "part") not in (None, id_of_sources(root))


def test_without_a_host_the_first_commit_tells(tmp_path: Path) -> None:
    root = repository(tmp_path / "one")
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    git(tmp_path, "clone", "-q", str(root), "clone")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{root}", "shallow")
    assert id_of_sources(tmp_path / "clone") == id_of_sources(root) is not None
    assert id_of_sources(tmp_path / "shallow") is None, "its first commit is not the project's"
    assert id_of_sources(tmp_path) is None


ONE, TWO = ProjectRow(id="11111111-1", name="app"), ProjectRow(id="22222222-2", name="lib")


@pytest.mark.parametrize(
    ("known", "here", "said"),
    [
        ((), "x", None),
        ((ONE,), ONE.id, None),
        ((ONE, TWO), ONE.id, "project app only; the database has 1 other project: lib"),
        ((ONE,), "x", "showing project app, the only one in the database; this folder has no runs there"),
        (
            (ONE, TWO),
            "x",
            (
                "nothing to show: the database has no runs of this folder, only of app, lib; run orch in the "
                "folder of one of them"
            ),
        ),
        (
            (ONE, ProjectRow(id="33333333-3", name="app"), TWO),
            ONE.id,
            "project app (11111111) only; the database has 2 other projects: app (33333333), lib",
        ),
    ],
)
def test_whose_figures_are_shown(known: tuple[ProjectRow, ...], here: str, said: str | None) -> None:
    assert scope_text(known, here) == said


@pytest.mark.parametrize(
    "words",
    [
        ("report",),
        ("report", "--violations"),
        ("report", "--run", "latest"),
        ("report", "--html", "page.html"),
        ("offenders",),
        ("flaky",),
        ("check", "--save", "baseline.json"),
        ("profiles", "suggest"),
        ("runs", "list"),
        ("runs", "show", "latest"),
        ("runs", "export", "latest"),
        ("runs", "diff", "latest", "latest"),
    ],
)
def test_every_command_says_whose_figures_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    config = project(tmp_path / "app")
    monkeypatch.chdir(config.project_root)
    kept = keep_id(config, None)
    recorded(config, project_id=kept)
    alone = CliRunner().invoke(orch, words)
    assert "other project" not in alone.stderr
    recorded(config, project_id="another", age=0.5)
    both = CliRunner().invoke(orch, words)
    told = [line for line in both.stderr.splitlines() if "other project" in line]
    assert len(told) == 1, both.stderr
    if "page.html" not in words and "export" not in words:
        assert both.stdout == alone.stdout


def test_commands_for_the_whole_database_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project(tmp_path / "app")
    monkeypatch.chdir(config.project_root)
    recorded(config, project_id=keep_id(config, None))
    recorded(config, project_id="another")
    for words in (("db", "path"), ("db", "info"), ("db", "vacuum"), ("runs", "prune")):
        assert "other project" not in CliRunner().invoke(orch, words).stderr

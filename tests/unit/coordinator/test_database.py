"""A run's database is opened beside its first container, and what goes wrong with it is told all the same."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from orchestrator.config.loader import load_config
from orchestrator.coordinator.database import LazyDatabase
from orchestrator.database.store.store import Database
from orchestrator.errors import DatabaseError
from orchestrator.model.outcomes import Outcome
from tests.unit.database.database_examples import finish, make_assignment, make_result, make_run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.config.settings import Config


class Told:
    """What was told of an opening, and in which thread."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, lines: Iterable[str]) -> None:
        self.lines += lines
        self.threads.add(threading.get_ident())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "profiles.yaml").write_text("version: 1\n")
    return load_config(path=tmp_path / "profiles.yaml", start=tmp_path, env={}, overrides={})


def belongs_to(config: Config, project: str) -> None:
    """As the project's first run leaves it."""
    config.state_dir.mkdir(exist_ok=True)
    (config.state_dir / "project").write_text(f"{project}\n")


def test_history_needs_no_open_database(config: Config) -> None:
    run, project = make_run(), "demo"
    belongs_to(config, project)
    with Database.open(None, state_dir=config.state_dir) as database:
        database.begin_run(run, [])
        database.record(run.id, make_result(run))
        expected = database.history([make_assignment(run).test.id], project=project)
    assert expected
    with LazyDatabase(config, Told()) as late:
        assert late.history([make_assignment(run).test.id]) == expected
        assert late._database is None
        assert not (config.state_dir / "resources.db-wal").exists()


def test_a_run_is_begun_and_recorded(config: Config) -> None:
    run, told = make_run(), Told()
    plan = [make_assignment(run)]
    with LazyDatabase(config, told) as late:
        assert late.history([plan[0].test.id]) == {}
        for _ in range(3):
            late.open_in_background(lambda database: database.begin_run(run, plan))
        late.record_soon(run.id, make_result(run))
        finish(late.get(), run)
        assert told.threads == {threading.get_ident()}
    with Database.open(None, state_dir=config.state_dir) as database:
        assert database.history([plan[0].test.id])[plan[0].test.id].last_outcome is Outcome.PASSED


def test_a_database_that_was_set_aside_is_told_once(config: Config) -> None:
    config.state_dir.mkdir()
    (config.state_dir / "resources.db").write_bytes(b"noise" * 1000)
    told = Told()
    with LazyDatabase(config, told) as late:
        assert late.history([make_assignment(make_run()).test.id]) == {}
        late.open_in_background()
        late.get()
    assert len(told.lines) == 1
    assert "kept as" in told.lines[0]


def test_trouble_in_the_thread_is_raised_to_who_waits(config: Config) -> None:
    config.state_dir.mkdir()
    (config.state_dir / "resources.db").mkdir()  # cannot be opened
    with LazyDatabase(config, Told()) as late:
        late.open_in_background()
        for _ in range(2):
            with pytest.raises(DatabaseError, match=r"resources\.db"):
                late.get()


def test_what_comes_first_fails_for_who_waits(config: Config) -> None:
    def fail(_: Database) -> None:
        raise RuntimeError("not begun")

    with LazyDatabase(config, Told()) as late:
        late.open_in_background(fail)
        with pytest.raises(RuntimeError, match="not begun"):
            late.record_soon("run", make_result(make_run()))
    Database.open(None, state_dir=config.state_dir).close()  # it was closed, and can be opened


def test_it_may_be_wanted_before(config: Config) -> None:
    run = make_run()
    with LazyDatabase(config, Told()) as late:
        opened = late.get()
        late.open_in_background(lambda database: database.begin_run(run, []))
        assert late.get() is opened
        assert late.failed(run.id) == ()

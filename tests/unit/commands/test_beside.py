"""Half of a report is worked out by a fork: its answer is the same, and without one the caller does it all."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.cli import main
from orchestrator.commands import beside as beside_module
from orchestrator.commands import report as report_module
from orchestrator.commands.beside import beside
from orchestrator.database.store.store import Database
from tests.support.nights import make_nights

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(tz=UTC)
A_DAY = ("--since", (NOW - timedelta(days=1)).isoformat(), "--until", NOW.isoformat())
LONG = ("--since", "2020-01-01", "--until", NOW.isoformat())


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has; a fork works on one too."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.fixture
def one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


@pytest.mark.usefixtures("two_processors")
def test_another_process_answers() -> None:
    with beside(lambda: (os.getpid(), "x" * 1_000_000)) as helper:
        helper.begin()
        answer = helper.answer()
    assert answer is not None
    assert answer[0] != os.getpid()
    assert answer[1] == "x" * 1_000_000, "more than a pipe holds"


@pytest.mark.usefixtures("two_processors")
def test_work_that_fails_is_no_answer() -> None:
    def fail() -> int:
        raise RuntimeError("the caller will see for itself")

    with beside(fail) as helper:
        helper.begin()
        assert helper.answer() is None


@pytest.mark.usefixtures("two_processors")
def test_nobody_is_left_behind(tmp_path: Path) -> None:
    """Neither one that was never begun nor one that is not waited for."""

    def slow() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    before = time.monotonic()
    with beside(slow):
        pass
    assert not (tmp_path / "pid").exists(), "it begins when it is told to"
    with beside(slow) as helper:
        helper.begin()
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
    assert time.monotonic() - before < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.usefixtures("one_processor")
def test_one_processor_makes_no_second_process() -> None:
    with beside(os.getpid) as helper:
        helper.begin()
        assert helper.answer() is None


@pytest.mark.usefixtures("two_processors")
def test_what_has_threads_is_not_forked() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with beside(os.getpid) as helper:
            assert helper.answer() is None
    finally:
        end.set()
        thread.join()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "warehouse"
    folder.mkdir()
    (folder / "profiles.yaml").write_text("version: 1\n")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ORCH_STATE_DIR", raising=False)
    with Database.open(None, state_dir=folder / ".orch") as db:
        make_nights(db, tests=48, nights=16, end=NOW)
    return folder


def outcome_of(*words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What second processes answered."""
    found: list[bytes] = []
    rest = beside_module._Child.rest

    def noting(child: beside_module._Child) -> bytes:
        found.append(rest(child))
        return found[-1]

    monkeypatch.setattr(beside_module._Child, "rest", noting)
    return found


@pytest.mark.parametrize("limit", [47, 48])
@pytest.mark.parametrize("sort", ["test", "p95"])
def test_two_processes_report_what_one_does(
    project: Path,
    request: pytest.FixtureRequest,
    answers: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sort: str,
    limit: int,
) -> None:
    monkeypatch.setattr(report_module, "_LARGE", 500)
    said = []
    for processors in ("one_processor", "two_processors"):
        assert not answers
        request.getfixturevalue(processors)
        outcome_of("report", *LONG, "--resource", "all", "--sort", sort, "--limit", str(limit), "--format", "json")
        said.append(capsys.readouterr().out)
    assert len(answers) == 1
    assert answers[0], "the second process had an answer"
    assert said[0] == said[1]
    assert len({row["test"] for row in json.loads(said[0])["usage"]}) == 47, "one is always skipped"


@pytest.mark.parametrize("window", [LONG, A_DAY], ids=["long", "day"])
def test_two_processes_make_the_page_that_one_does(
    project: Path, request: pytest.FixtureRequest, answers: list[bytes], window: tuple[str, ...]
) -> None:
    pages = []
    for processors in ("one_processor", "two_processors"):
        assert not answers
        request.getfixturevalue(processors)
        outcome_of("report", *window, "--html", str(project / "page.html"))
        text = (project / "page.html").read_text()
        before, _, after = text.partition("\nMade ")
        pages.append(before + after.partition(" by orch")[2])
    assert len(answers) == 1
    assert answers[0]
    assert pages[0] == pages[1]
    assert 'aria-label="Flaky tests"' in pages[0]

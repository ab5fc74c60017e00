"""Old run folders go while tests run: the same ones as at a run's end, whole, and none that somebody writes to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.config.settings import Retention
from orchestrator.coordinator import retention as oldruns
from orchestrator.coordinator.retention import OldRunRemoval, in_use, old_runs, remove_old_runs
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.files import write_atomically
from orchestrator.stop_flag import StopFlag, StopLevel
from tests.unit.database.database_examples import make_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = datetime.now(UTC)
KEEP_ALL = Retention(runs_days=30, runs_count=100, runs_bytes=1 << 30)
HOLDER = """
import sys, time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.files import write_atomically
from tests.unit.database.database_examples import make_run
folder = RunFolder(Path(sys.argv[1]), replace(make_run(), started_at=datetime.fromisoformat(sys.argv[2])))
print(folder.path, flush=True)
time.sleep(60)
"""


def ended(state_dir: Path, age: timedelta, *, tests: int = 3, size: int = 100) -> Path:
    """The folder of a run that began so long ago; nobody holds it."""
    path = RunFolder(state_dir, replace(make_run(), started_at=NOW - age)).path
    for number in range(tests):
        place = path / "tests" / f"t{number}"
        (place / "outputs").mkdir(parents=True)
        (place / "stdout").write_bytes(b"x" * size)
    link = path / "by-status" / "failed" / "t0"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../tests/t0")
    (path / "run.json").write_text("{}")
    return path


def present(state_dir: Path) -> RunFolder:
    return RunFolder(state_dir, replace(make_run(), started_at=NOW))


def there(state_dir: Path) -> set[Path]:
    return set((state_dir / "runs").iterdir())


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (KEEP_ALL, 5),
        (replace(KEEP_ALL, runs_count=3), 2),  # and the present run
        (replace(KEEP_ALL, runs_count=1), 0),
        (replace(KEEP_ALL, runs_days=2), 2),  # 20 and 40 hours
        (replace(KEEP_ALL, runs_bytes=1000), 2),  # the present run's 260 bytes and 302 each
    ],
)
def test_the_same_go_as_all_at_once_at_the_end(
    retention: Retention, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oldruns, "DELAY_SECONDS", 0.0)
    folders = [ended(tmp_path, hours(20 * number)) for number in range(1, 6)]
    with OldRunRemoval(tmp_path, retention) as removal:
        mine = present(tmp_path)
        removal.begin_soon(StopFlag())
        write_atomically(mine.path / "run.json", b"x" * 260)  # a run that has a run.json is counted once
        assert removal.finish() == []
    assert there(tmp_path) == {mine.path, *folders[:kept]}
    assert old_runs(tmp_path, retention) == ()


def test_they_go_while_tests_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oldruns, "DELAY_SECONDS", 0.01)
    old, kept = ended(tmp_path, hours(3)), ended(tmp_path, hours(2))
    with OldRunRemoval(tmp_path, replace(KEEP_ALL, runs_count=2)) as removal:
        mine = present(tmp_path)
        assert old.exists()
        for _ in range(2):
            removal.begin_soon(StopFlag())
        deadline = time.monotonic() + 20
        while there(tmp_path) != {mine.path, kept} and time.monotonic() < deadline:
            time.sleep(0.01)
        assert there(tmp_path) == {mine.path, kept}


def test_a_run_that_is_over_at_once_does_not_wait_for_the_delay(tmp_path: Path) -> None:
    old = ended(tmp_path, hours(3))
    began = time.monotonic()
    with OldRunRemoval(tmp_path, replace(KEEP_ALL, runs_count=1)) as removal:
        mine = present(tmp_path)
        removal.begin_soon(StopFlag())
        assert removal.finish() == []
    assert time.monotonic() - began < oldruns.DELAY_SECONDS
    assert there(tmp_path) == {mine.path}
    assert not old.exists()


def test_leaving_early_gives_up(tmp_path: Path) -> None:
    old = ended(tmp_path, hours(3))
    began = time.monotonic()
    with OldRunRemoval(tmp_path, replace(KEEP_ALL, runs_count=1)) as removal:
        mine = present(tmp_path)
        removal.begin_soon(StopFlag())
    assert time.monotonic() - began < oldruns.DELAY_SECONDS
    assert there(tmp_path) == {mine.path, old}


def test_a_stop_ends_it_and_what_is_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oldruns, "DELAY_SECONDS", 0.0)
    old = ended(tmp_path, hours(3), tests=50)
    older = ended(tmp_path, hours(4), tests=50)
    retention, stop = replace(KEEP_ALL, runs_count=1), StopFlag()
    remove = oldruns.shutil.rmtree

    def remove_and_stop(path: Path) -> None:
        remove(path)
        stop.set(StopLevel.TERMINATE)

    monkeypatch.setattr(oldruns.shutil, "rmtree", remove_and_stop)
    with OldRunRemoval(tmp_path, retention) as removal:
        mine = present(tmp_path)
        removal.begin_soon(stop)
        stop.wait(20)
    going = old.with_name(f".{old.name}.removing")
    assert there(tmp_path) == {mine.path, going, older}
    assert len(list((going / "tests").iterdir())) == 49
    monkeypatch.undo()
    gone: list[oldruns.OldRun] = []
    assert remove_old_runs(tmp_path, retention, removed=gone.append) == []
    assert there(tmp_path) == {mine.path}
    assert [run.path for run in gone] == [older]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[timedelta], tuple[Path, subprocess.Popen[str]]]]:
    """Another process that has a run's folder."""
    started: list[subprocess.Popen[str]] = []

    def begin(age: timedelta) -> tuple[Path, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), (NOW - age).isoformat()],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return tmp_path.__class__(process.stdout.readline().strip()), process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_what_a_living_orch_writes_to_stays(
    tmp_path: Path, hold: Callable[[timedelta], tuple[Path, subprocess.Popen[str]]]
) -> None:
    theirs, process = hold(hours(50))
    old, mine = ended(tmp_path, hours(3)), present(tmp_path)
    retention = replace(KEEP_ALL, runs_count=1, runs_days=1)
    assert {run.path for run in old_runs(tmp_path, retention)} == {theirs, old}
    assert in_use(theirs)
    assert not in_use(old)
    assert remove_old_runs(tmp_path, retention) == []
    assert there(tmp_path) == {mine.path, theirs}
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not in_use(theirs)
    assert remove_old_runs(tmp_path, retention) == []
    assert there(tmp_path) == {mine.path}


def test_the_own_folder_stays_though_a_later_one_is_there(tmp_path: Path) -> None:
    """As after the clock was set back."""
    later, mine = ended(tmp_path, -hours(1)), present(tmp_path)
    with OldRunRemoval(tmp_path, replace(KEEP_ALL, runs_count=1)) as removal:
        assert removal.finish() == []
    assert there(tmp_path) == {mine.path, later}


def test_a_folder_that_cannot_go_is_told_and_the_others_go(tmp_path: Path) -> None:
    stuck, old, mine = ended(tmp_path, hours(2)), ended(tmp_path, hours(3)), present(tmp_path)
    stuck.with_name(f".{stuck.name}.removing").write_text("in the way")
    (problem,) = remove_old_runs(tmp_path, replace(KEEP_ALL, runs_count=1))
    assert problem == f"cannot remove the old run folder {stuck}: Not a directory"
    assert stuck.exists()
    assert not old.exists()
    assert mine.path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A user who moved large outputs elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "t0").mkdir()
    old = ended(tmp_path, hours(3))
    (old / "tests").rename(tmp_path / "away")
    (old / "tests").symlink_to(elsewhere)
    mine = present(tmp_path)
    assert remove_old_runs(tmp_path, replace(KEEP_ALL, runs_count=1)) == []
    assert there(tmp_path) == {mine.path}
    assert (elsewhere / "t0").exists()

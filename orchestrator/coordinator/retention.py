"""Old run folders: which of them retention gives up, and how they go, mostly while tests run.

A folder that a living orch writes to is locked (`RunFolder`), and stays. One that goes is renamed first, so that
nobody finds half of it; what a stop has left of it goes with the next removal.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.coordinator.run_folder import NAME, size_of
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from orchestrator.config.settings import Retention
    from orchestrator.stop_flag import StopFlag

DELAY_SECONDS = 1.0
"""From the first test's start to the first removal: until then containers and database come up, on all CPUs."""
_GOING = re.compile(rf"\.{NAME.pattern}\.removing")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRun:
    """A run folder that the retention settings allow to remove."""

    path: Path
    bytes: int
    reason: str


def old_runs(state_dir: Path, retention: Retention, *, now: datetime | None = None) -> tuple[OldRun, ...]:
    """Folders that are too old, too many or too large together; the newest is always kept.

    Time that passes and a run that grows only add to them: what is old while a run goes on is so at its end.
    """
    now = now or datetime.now(UTC)
    found = sorted(_folders(state_dir, NAME), reverse=True)
    total, old = 0, []
    for index, folder in enumerate(found):
        size = size_of(folder)
        total += size
        started = datetime.strptime(folder.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if index == 0:
            continue
        if (now - started).days >= retention.runs_days:
            old.append(OldRun(path=folder, bytes=size, reason=f"older than {retention.runs_days} days"))
        elif index >= retention.runs_count:
            old.append(OldRun(path=folder, bytes=size, reason=f"more than {retention.runs_count} runs"))
        elif total > retention.runs_bytes:
            old.append(OldRun(path=folder, bytes=size, reason="all run folders together are over their size"))
    return tuple(old)


def in_use(path: Path) -> bool:
    """Return True if a running orch writes to this folder or removes it."""
    with suppress(OSError), _held(path) as held:
        return not held
    return False


def remove_old_runs(
    state_dir: Path,
    retention: Retention,
    *,
    stopped: Callable[[], bool] = lambda: False,
    removed: Callable[[OldRun], object] = lambda _: None,
) -> Sequence[str]:
    """Remove what is old, but for folders in use, and what an earlier removal has left. Returns what could not be
    removed, a sentence each.

    `stopped` is asked often; once it is True, the rest stays. `removed` is told of each that is gone.
    """
    problems = []
    left = [OldRun(path=path, bytes=0, reason="") for path in _folders(state_dir, _GOING)]
    for run in (*left, *old_runs(state_dir, retention)):
        try:
            gone = not stopped() and _remove(run.path, stopped)
        except OSError as error:
            problems.append(f"cannot remove the old run folder {run.path}: {error.strerror}")
        else:
            if gone and run not in left:
                removed(run)
    return problems


def _remove(path: Path, stopped: Callable[[], bool]) -> bool:
    """Remove a run folder. Returns False if it is in use or the run was stopped meanwhile. Raises OSError."""
    with suppress(FileNotFoundError), _held(path) as held:  # not found: somebody else was quicker
        if not held:
            return False
        if not _GOING.fullmatch(path.name):
            path = path.rename(path.with_name(f".{path.name}.removing"))
        for part in _parts(path):
            if stopped():
                return False
            shutil.rmtree(part)
    return True


def _parts(folder: Path) -> Iterator[Path]:
    """Yield the folder of each test, then the folder itself, so that a stop ends the removal soon."""
    tests = folder / "tests"
    if tests.is_dir() and not tests.is_symlink():
        yield from [path for path in tests.iterdir() if path.is_dir() and not path.is_symlink()]
    yield folder


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """No other orch removes it meanwhile. False: somebody else holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can hold one
        pass
    return True


def _folders(state_dir: Path, name: re.Pattern[str]) -> Iterator[Path]:
    with suppress(OSError):
        for entry in (state_dir / "runs").iterdir():
            if name.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                yield entry


class OldRunRemoval:
    """Removes a project's old run folders in a thread while tests run. Context manager: leaving it early gives up
    what is not yet removed.
    """

    def __init__(self, state_dir: Path, retention: Retention) -> None:
        self._state_dir, self._retention = state_dir, retention
        self._left = False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._join()

    def begin_soon(self, stop: StopFlag) -> None:
        """The first test has started: begin in `DELAY_SECONDS`; end early when the run is stopped. Only the first
        call counts.
        """
        if self._timer is None:
            self._timer = threading.Timer(DELAY_SECONDS, self._work, [stop])
            self._timer.name = "orch-old-runs"
            self._timer.start()

    def _work(self, stop: StopFlag) -> None:
        # What fails here is told by `finish`, which tries again.
        remove_old_runs(
            self._state_dir,
            self._retention,
            stopped=lambda: self._left or stop.level >= StopLevel.TERMINATE,
        )

    def finish(self) -> Sequence[str]:
        """The run has ended, and its folder is as large as it will be: wait, and remove the rest. Returns what
        could not be removed, a sentence each.
        """
        self._join()
        return remove_old_runs(self._state_dir, self._retention)

    def _join(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()

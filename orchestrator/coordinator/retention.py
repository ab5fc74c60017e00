"""Find the run folders that retention no longer keeps, and remove them, mostly while tests run.

A folder that a running orch writes to is locked (`RunFolder`) and is kept. A folder is renamed before it is
removed, so that nobody finds a part of it. The next removal deletes what an interrupted one has left.
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
from orchestrator.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from orchestrator.config.settings import Retention
    from orchestrator.stop_flag import StopFlag

DELAY_SECONDS = 1.0
"""The delay from the start of the first test to the first removal. Until then the start of containers and of the
database uses all CPUs.
"""
_GOING = re.compile(rf"\.{NAME.pattern}\.removing")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRun:
    """A run folder that the retention settings allow to remove."""

    path: Path
    bytes: int
    reason: str


def old_runs(state_dir: Path, retention: Retention, *, now: datetime | None = None) -> tuple[OldRun, ...]:
    """Return the run folders that are too old, too many or too large together. The newest is always kept.

    The result only grows as time passes and a run writes: a folder that is in it during a run is in it at the end.
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
            old.append(OldRun(path=folder, bytes=size, reason=f"older than {plural(retention.runs_days, 'day')}"))
        elif index >= retention.runs_count:
            old.append(OldRun(path=folder, bytes=size, reason=f"more than {plural(retention.runs_count, 'run')}"))
        elif total > retention.runs_bytes:
            old.append(
                OldRun(path=folder, bytes=size, reason="all run folders together are larger than retention allows")
            )
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
    """Remove old run folders that are not in use, and the rest of interrupted removals.

    Return a sentence for each folder that could not be removed. `stopped` is called often; once it returns True,
    nothing more is removed. `removed` is called for each folder that was removed.
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
    with suppress(FileNotFoundError), _held(path) as held:  # not found: another process has removed it
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
    """Lock a run folder against removal by others. Yields False if another process holds it. Raises OSError."""
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
    except OSError:  # a file system without locks, so that nobody holds one
        pass
    return True


def _folders(state_dir: Path, name: re.Pattern[str]) -> Iterator[Path]:
    with suppress(OSError):
        for entry in (state_dir / "runs").iterdir():
            if name.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                yield entry


class OldRunRemoval:
    """Removes the old run folders of a project in a thread while tests run.

    As a context manager, its exit ends the removal early.
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
        """Start the removal in `DELAY_SECONDS`. It ends early if the run is stopped. Later calls do nothing."""
        if self._timer is None:
            self._timer = threading.Timer(DELAY_SECONDS, self._work, [stop])
            self._timer.name = "orch-old-runs"
            self._timer.start()

    def _work(self, stop: StopFlag) -> None:
        # Failures are ignored here, because `finish` tries again and returns them.
        remove_old_runs(
            self._state_dir,
            self._retention,
            stopped=lambda: self._left or stop.level >= StopLevel.TERMINATE,
        )

    def finish(self) -> Sequence[str]:
        """Wait for the thread, then remove the rest. Return a sentence for each folder that could not be removed.

        It is called after the run, when the run's own folder has its final size.
        """
        self._join()
        return remove_old_runs(self._state_dir, self._retention)

    def _join(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()

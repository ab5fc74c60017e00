"""The folder of a run below `.orch/runs`, with the files that it gets while tests run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
import weakref
from contextlib import suppress
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note
from orchestrator.errors import UsageError
from orchestrator.files import NO_ROOM, copy_bytes, free_bytes, private_folder, spare_folders, write_all
from orchestrator.model.outcomes import Outcome
from orchestrator.model.violations import Severity
from orchestrator.reports.formats.run_json import attempt_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.runs import Run
    from orchestrator.model.tests import Assignment

NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
KEPT_ELSEWHERE_DAYS = 30
EVENTS_NAME = "events.jsonl"
SIZE_NAME = ".bytes"
"""The file with the number of bytes in the folder of an ended run."""
RESERVE_BYTES = 16 << 20
RESERVE_SHARE = 0.05
"""A disk counts as full if less than both of these is free, because the size of a test's files is known only after
they are written.
"""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def safe_name(text: str) -> str:
    """Return a file name for a test's id: readable, short, and different for each id."""
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
    readable = _UNSAFE.sub("_", text)[-100:].lstrip("-.") or "test"
    return f"{readable}-{digest}"


def attempt_folder_name(test: str, *, repetition: int, attempt: int) -> str:
    """Return the name of an attempt's folder below `tests`."""
    name = safe_name(test)
    if repetition > 1:
        name += f".r{repetition}"
    return f"{name}.a{attempt}" if attempt > 1 else name


def needs_no_metrics_file(attempt: Attempt) -> bool:
    """Return True for a test in a reused slot that passed and left nothing but what it printed.

    Such a test gets no metrics.json, because writing it would take a tenth of the time of the test. Its content is
    in events.jsonl and the database (docs/design/coordinator/cost.md).
    """
    evidence = attempt.evidence
    notable = evidence.outputs_notes or any(v.severity is not Severity.NOTICE for v in attempt.violations)
    reused = attempt.assignment.profile.reuse > 1
    return reused and attempt.outcome is Outcome.PASSED and not evidence.outputs and not notable


class RunFolder:
    """The folder of one run, which is created when the run starts.

    Once its disk is full, new files go to a folder of the same name on another disk
    (docs/design/coordinator/full-disk.md).
    """

    def __init__(self, state_dir: Path, run: Run) -> None:
        moment = run.started_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = state_dir / "runs" / f"{moment}-{run.short_id}"
        self._elsewhere: Path | None = None
        self._lock = threading.Lock()
        self._bytes = 0
        try:
            (self.path / "tests").mkdir(parents=True)
            self._lock_folder()
            _point(state_dir / "latest", self.path)
            ignore = state_dir / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write the run's folder {self.path}: {error.strerror}",
                remedy="make the project writable, or set state_dir in profiles.yaml or ORCH_STATE_DIR",
            ) from error

    def _lock_folder(self) -> None:
        """Lock the folder against removal by other orch processes, as long as this object or process exists."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @property
    def elsewhere(self) -> Path | None:
        """The folder that is used since the disk became full; None if it is not full."""
        return self._elsewhere

    def writable_path(self) -> Path:
        """Return the folder to write to now. May be called from any thread."""
        if self._elsewhere is None and free_bytes(self.path) < self._reserve:
            self.move_elsewhere()
        return self._elsewhere or self.path

    @cached_property
    def _reserve(self) -> int:
        """The number of bytes that stay free for tests that are still writing."""
        try:
            status = os.statvfs(self.path)
        except OSError:
            return 0
        return min(RESERVE_BYTES, int(status.f_blocks * status.f_frsize * RESERVE_SHARE))

    def move_elsewhere(self, *, unless_free_bytes: int = 0) -> None:
        """Write new files to another disk, unless `unless_free_bytes` are free here or no other disk has room."""
        with self._lock:
            if self._elsewhere is not None or 0 < unless_free_bytes <= free_bytes(self.path):
                return
            for folder in spare_folders("runs"):
                place = folder / self.path.name
                with suppress(OSError):
                    if free_bytes(private_folder(folder)) >= RESERVE_BYTES:
                        _remove_old(folder)
                        (place / "tests").mkdir(parents=True)
                        self._elsewhere = place
                        break
            if self._elsewhere is not None:
                note(f"the disk under {self.path} is full: new files of this run are written to {self._elsewhere}")

    def attempt_folder(self, assignment: Assignment) -> Path:
        """Return the path of an attempt's folder. It is created by the first code that writes a file to it."""
        name = attempt_folder_name(
            str(assignment.test.id), repetition=assignment.repetition, attempt=assignment.attempt
        )
        return self.writable_path() / "tests" / name

    def write_metrics(self, attempt: Attempt) -> None:
        """Write metrics.json of an attempt that has a folder. May be called from any thread.

        On a full disk the file is left out, because events.jsonl has the same content. Raises OSError.
        """
        if attempt.folder is None:
            return
        text = f"{attempt_text(attempt, samples=True)}\n"
        path = attempt.folder / "metrics.json"
        try:
            attempt.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            with suppress(OSError):
                path.unlink()
            self.move_elsewhere()

    def link_by_status(self, result: TestResult) -> None:
        """Link by-status/OUTCOME to the folder of the deciding attempt, if the outcome is not `passed`."""
        folder = result.final.folder
        if folder is None or result.outcome is Outcome.PASSED:
            return
        link = folder.parent.parent / "by-status" / result.outcome.value / folder.name
        with suppress(OSError):  # a file system without links: the folder itself is still there
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path("..") / ".." / "tests" / folder.name)

    def add_sizes(self, results: Iterable[TestResult]) -> None:
        """Add the sizes of the tests' files to the size of the folder.

        They are counted here so that nothing has to read thousands of folders at the end of the run.
        """
        self._bytes += sum(_bytes_of(attempt) for result in results for attempt in result.attempts)

    def write_size(self) -> None:
        """Write the size of the folder, after all results were added and all reports written."""
        total = self._bytes
        with suppress(OSError), os.scandir(self.path) as entries:
            total += sum(entry.stat().st_size for entry in entries if entry.is_file(follow_symlinks=False))
        _note_bytes(self.path, total)


def _remove_old(folder: Path) -> None:
    """Remove the folders of runs older than `KEPT_ELSEWHERE_DAYS`; nothing else removes them."""
    for old in folder.iterdir():
        if time.time() - old.lstat().st_mtime > KEPT_ELSEWHERE_DAYS * 86_400:
            shutil.rmtree(old, ignore_errors=True)


class EventsFile:
    """The file events.jsonl of a run, which moves to another disk with the folder. For one thread at a time."""

    def __init__(self, folder: RunFolder) -> None:
        """Create the file. Raises OSError."""
        self._folder = folder
        self.path = folder.writable_path() / EVENTS_NAME
        self._file = self.path.open("w+b", buffering=0)
        self._size = 0

    def add(self, text: str) -> None:
        """Append lines to the file. Raises OSError."""
        data = text.encode()
        try:
            write_all(self._file, data)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._move(error)
            write_all(self._file, data)
        self._size += len(data)

    def _move(self, error: OSError) -> None:
        """Move the file to the fallback folder, with all lines written so far."""
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._size)  # remove an incomplete line
        self._folder.move_elsewhere()
        if self._folder.elsewhere is None:
            raise error
        path = self._folder.elsewhere / EVENTS_NAME
        moved = path.open("w+b", buffering=0)
        try:
            self._file.seek(0)
            copy_bytes(self._file, moved, self._size)
        except BaseException:
            moved.close()
            raise
        self._file.close()
        self.path, self._file = path, moved

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _point(link: Path, target: Path) -> None:
    """Point the symbolic link `link` to `target` atomically."""
    with suppress(OSError):  # the link is only a convenience
        fresh = link.with_name(f".latest-{os.getpid()}")
        fresh.symlink_to(target.relative_to(link.parent))
        fresh.replace(link)


def size_of(folder: Path) -> int:
    """Return the number of bytes in a run's folder. For an ended run they are counted once and kept in a file."""
    known, ended = folder / SIZE_NAME, (folder / "run.json").exists()
    if ended:
        with suppress(OSError, ValueError):
            return int(known.read_text(encoding="ascii"))
    total = _bytes_below(folder)
    if ended:
        _note_bytes(folder, total)
    return total


def _note_bytes(folder: Path, total: int) -> None:
    with suppress(OSError):
        (folder / SIZE_NAME).write_text(f"{total}\n", encoding="ascii")


def _bytes_of(attempt: Attempt) -> int:
    evidence = attempt.evidence
    if attempt.folder is None:
        return 0
    if needs_no_metrics_file(attempt):
        return evidence.stdout.kept_bytes + evidence.stderr.kept_bytes
    return _bytes_below(attempt.folder)


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - Path objects are too slow for many files
    return total

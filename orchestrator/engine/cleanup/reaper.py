"""Leaves nothing behind: removes a run's objects at its end, sees to it when orch dies, and clears old ones.

`Reaper` is a context manager around a run. It starts the watchdog, a small process on the other end of a pipe:
when orch ends without a word, by kill -9 too, the pipe closes and the watchdog does the same sweep.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from orchestrator.engine import labels
from orchestrator.engine.cleanup import orphaned_slots
from orchestrator.errors import EngineError
from orchestrator.measure.processes import owner_is_of_this_boot

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.engine.base import ContainerEngine, FoundObject
    from orchestrator.engine.docker.availability import EngineAvailability
    from orchestrator.engine.labels import Owner

WORK_DIR_PREFIX = "orch-"
OWNER_FILE = "owner"
AWAY_AT_END_SECONDS = 20.0
"""For an engine that is away when a run ends, whose results are there; the watchdog tries for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Outcome of one sweep."""

    removed: tuple[FoundObject, ...] = ()
    left: tuple[str, ...] = ()
    """Kind, name and reason of what could not be removed."""


def sweep_run(engine: ContainerEngine, run_id: str, *, work_dir: str | None, shims: bool = True) -> Swept:
    """Remove everything that a run made: containers, volumes, networks, cgroups, its temporary folder. `shims`:
    look for what an engine that was ended has forgotten.
    """
    try:
        found = tuple(f for f in engine.find(labels.run_filter(run_id)) if labels.is_ours(f))
        swept = remove_all(engine, found)
    finally:  # also without an engine: the containers in them are ours
        left = orphaned_slots.remove(orphaned_slots.find_of_run(run_id, shims=shims))
    if work_dir is not None:
        remove_work_dir(work_dir)
    return replace(swept, left=(*swept.left, *left))


def remove_all(engine: ContainerEngine, found: tuple[FoundObject, ...]) -> Swept:
    """Remove what was found; containers first, as they hold volumes and networks."""
    left = []
    removed = []
    for item in sorted(found, key=lambda f: f.kind != "container"):
        try:
            engine.remove_object(item)
            removed.append(item)
        except EngineError as error:
            left.append(f"{item.kind} {item.name}: {error.message}")
    return Swept(removed=tuple(removed), left=tuple(left))


def remove_work_dir(work_dir: str) -> None:
    """Remove a run's temporary folder; only what has a name of ours and belongs to us."""
    path = Path(work_dir)
    with suppress(OSError):
        if path.name.startswith(WORK_DIR_PREFIX) and path.lstat().st_uid == os.getuid() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def find_orphans(
    engine: ContainerEngine,
    *,
    owner_alive: Callable[[str], bool],
    older_than_seconds: float = 0.0,
) -> tuple[FoundObject, ...]:
    """Objects of runs whose orch is dead, of all runs on this engine."""
    now = time.time()
    orphans = []
    for found in engine.find({labels.MANAGED: "true"}):
        token = found.labels.get(labels.OWNER, "")
        if not labels.is_ours(found) or owner_alive(token):
            continue
        if not engine.info.local and not owner_is_of_this_boot(token) and older_than_seconds <= 0:
            continue  # another machine's orch on a shared engine: only its age can tell
        age = now - found.created_at.timestamp() if found.created_at else float("inf")
        if age >= older_than_seconds:
            orphans.append(found)
    return tuple(orphans)


def stale_work_dirs(*, owner_alive: Callable[[str], bool], older_than_seconds: float = 0.0) -> tuple[str, ...]:
    """Temporary folders of runs whose orch is dead."""
    stale = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{WORK_DIR_PREFIX}*-*-*-*-*")):
        with suppress(OSError):
            token = (path / OWNER_FILE).read_text(encoding="utf-8").strip()
            age = time.time() - path.lstat().st_mtime
            if path.lstat().st_uid == os.getuid() and age >= older_than_seconds and not owner_alive(token):
                stale.append(str(path))
    return tuple(stale)


def remove_orphans(
    engine: ContainerEngine, found: tuple[FoundObject, ...], *, work_dirs: tuple[str, ...] = ()
) -> Swept:
    """Remove what `find_orphans` and `stale_work_dirs` found, and the cgroups of those runs."""
    swept = remove_all(engine, found)
    runs = {f.labels[labels.RUN] for f in found} | {Path(p).name.removeprefix(WORK_DIR_PREFIX) for p in work_dirs}
    left = [
        problem for run_id in sorted(runs) for problem in orphaned_slots.remove(orphaned_slots.find_of_run(run_id))
    ]
    for work_dir in {*(f.labels.get(labels.WORK_DIR, "") for f in found), *work_dirs} - {""}:
        remove_work_dir(work_dir)
    return replace(swept, left=(*swept.left, *left))


class Reaper:
    """Around a run: the watchdog outside, the last sweep at the end."""

    def __init__(
        self, engine: ContainerEngine, owner: Owner, *, availability: EngineAvailability | None = None
    ) -> None:
        """`availability`: who waits a little for an engine that is away when the run ends."""
        self._presence = availability
        self._engine = engine
        self._owner = owner
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.swept = Swept()

    def __enter__(self) -> Self:
        """Start the watchdog before anything is made."""
        self._watchdog = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "orchestrator.engine.cleanup.watchdog",
                self._engine.info.address,
                self._owner.run_id,
                self._owner.work_dir,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            start_new_session=True,  # Ctrl-C and a closed terminal are for orch, not for it
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Sweep, then let the watchdog go; if the sweep fails, the watchdog tries once more."""
        try:
            if self._presence is not None:
                self._presence.wait(at_most=AWAY_AT_END_SECONDS)
            shims = self._presence is None or self._presence.was_away
            self.swept = sweep_run(self._engine, self._owner.run_id, work_dir=self._owner.work_dir, shims=shims)
        except EngineError as error:
            self.swept = Swept(left=(f"unknown: {error.message}",))
        finally:
            self._dismiss(clean=not self.swept.left)

    def _dismiss(self, *, clean: bool) -> None:
        watchdog = self._watchdog
        if watchdog is None or watchdog.stdin is None:
            return
        with suppress(OSError):  # it was killed: nothing to dismiss
            if clean:
                watchdog.stdin.write(b"done\n")
            watchdog.stdin.close()
        if clean:
            with suppress(subprocess.TimeoutExpired):
                watchdog.wait(5)

"""Removes a run's objects at its end, also if orch is killed, and objects that dead runs have left.

`Reaper` is a context manager around a run. It starts the watchdog, a small process at the other end of a pipe. If
orch dies, even by kill -9, the pipe closes and the watchdog removes the run's objects.
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
"""The time to wait at the end of a run for an engine that is away. The watchdog tries for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The result of a clean-up: the objects that were removed, and those that could not be."""

    removed: tuple[FoundObject, ...] = ()
    left: tuple[str, ...] = ()
    """A text for each object that could not be removed: kind, name and reason."""


def sweep_run(engine: ContainerEngine, run_id: str, *, work_dir: str | None, shims: bool = True) -> Swept:
    """Remove all objects of a run: containers, volumes, networks, cgroups, and its temporary folder `work_dir`.

    With `shims`, also look for containerd-shim processes that a restarted engine has forgotten. Raises
    EngineError.
    """
    try:
        found = tuple(f for f in engine.find(labels.run_filter(run_id)) if labels.is_ours(f))
        swept = remove_all(engine, found)
    finally:  # also if the engine does not answer: only our containers are in them
        left = orphaned_slots.remove(orphaned_slots.find_of_run(run_id, shims=shims))
    if work_dir is not None:
        remove_work_dir(work_dir)
    return replace(swept, left=(*swept.left, *left))


def remove_all(engine: ContainerEngine, found: tuple[FoundObject, ...]) -> Swept:
    """Remove objects, containers first because they use the volumes and networks."""
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
    """Remove a run's temporary folder, if it has the name of one and belongs to this user."""
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
    """Return the objects on this engine whose orch process is dead and that have at least this age."""
    now = time.time()
    orphans = []
    for found in engine.find({labels.MANAGED: "true"}):
        token = found.labels.get(labels.OWNER, "")
        if not labels.is_ours(found) or owner_alive(token):
            continue
        if not engine.info.local and not owner_is_of_this_boot(token) and older_than_seconds <= 0:
            continue  # made on another machine that shares the engine: without an age limit it may be in use
        age = now - found.created_at.timestamp() if found.created_at else float("inf")
        if age >= older_than_seconds:
            orphans.append(found)
    return tuple(orphans)


def stale_work_dirs(*, owner_alive: Callable[[str], bool], older_than_seconds: float = 0.0) -> tuple[str, ...]:
    """Return the temporary folders of runs whose orch process is dead."""
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
    """Remove the results of `find_orphans` and `stale_work_dirs`, and the cgroups of those runs."""
    swept = remove_all(engine, found)
    runs = {f.labels[labels.RUN] for f in found} | {Path(p).name.removeprefix(WORK_DIR_PREFIX) for p in work_dirs}
    left = [
        problem for run_id in sorted(runs) for problem in orphaned_slots.remove(orphaned_slots.find_of_run(run_id))
    ]
    for work_dir in {*(f.labels.get(labels.WORK_DIR, "") for f in found), *work_dirs} - {""}:
        remove_work_dir(work_dir)
    return replace(swept, left=(*swept.left, *left))


class Reaper:
    """A context manager around a run that starts the watchdog and removes the run's objects at the end."""

    def __init__(
        self, engine: ContainerEngine, owner: Owner, *, availability: EngineAvailability | None = None
    ) -> None:
        """Prepare for the run `owner`; `availability` waits for an engine that is away when the run ends."""
        self._presence = availability
        self._engine = engine
        self._owner = owner
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.swept = Swept()

    def __enter__(self) -> Self:
        """Start the watchdog, before any object of the run is created."""
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
            start_new_session=True,  # it must survive Ctrl-C and a closed terminal
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the run's objects and end the watchdog; if that fails, the watchdog tries again."""
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
        """Close the watchdog's pipe; with `clean`, tell it to end without a clean-up, and wait for it."""
        watchdog = self._watchdog
        if watchdog is None or watchdog.stdin is None:
            return
        with suppress(OSError):  # the watchdog was killed
            if clean:
                watchdog.stdin.write(b"done\n")
            watchdog.stdin.close()
        if clean:
            with suppress(subprocess.TimeoutExpired):
                watchdog.wait(5)

"""Named locks between the orch processes of one user, as files in the user's cache folder.

Why not filelock and platformdirs: docs/design/dependencies.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator import files
from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def make_cache_folder() -> Path:
    """Return the user's cache folder for orch (`files.cache_folder`), created if missing. Raises EngineError."""
    folder = files.cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"cannot make the cache folder {folder}: {error.strerror}",
            remedy="set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    return folder


@contextmanager
def named_lock(name: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock `name`; call `on_wait` once if another process holds it. Raises EngineError.

    The kernel releases the lock when its holder dies. The lock file is never removed: one process could then hold
    the lock on the removed file and another on a new file.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60]
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    path = make_cache_folder() / f"{readable}-{digest}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"cannot open the lock {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""Do something to a test once it has said that it is at it, and not after a time that may be too short."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECONDS = 60.0


@contextmanager
def once_said(stdout: Path, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` in another thread once this file of a test's output exists and is not empty.

    Fails if that has not happened within a minute, or before the block's end.
    """
    over, done = threading.Event(), list[bool]()

    def watch() -> None:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and not over.is_set():
            if stdout.exists() and stdout.stat().st_size:
                act()
                done.append(True)
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert done, "the test said nothing"

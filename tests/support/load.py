"""Make the machine busy for a while, with loops that use all available CPU and end by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOP = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and os.getppid() == int(sys.argv[2]):
    for _ in range(10_000): pass
"""


@contextmanager
def busy_machine(loops: int, *, seconds: float) -> Iterator[None]:
    """Run this number of processes that each use a CPU; they end after `seconds` at the latest, or with their
    parent.

    Each has a session of its own, because the kernel's autogroups give all tasks of one session the share of one
    task.
    """
    words = [sys.executable, "-c", _LOOP, str(seconds), str(os.getpid())]
    started = [subprocess.Popen(words, start_new_session=True) for _ in range(loops)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()

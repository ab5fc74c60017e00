"""A busy machine, for a while: loops that take all the CPU they can get, and end by themselves."""

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
    """So many processes that each want a CPU. They end after `seconds` at the latest, or with their parent.
    Each has a session of its own: the kernel's autogroups give all tasks of one session the share of a single one.
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

"""A program's one run: its wall time from start to exit and the CPU time that the kernel gave it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.overhead.comparing import RowError, Timing

if TYPE_CHECKING:
    import resource
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

LONGEST_SECONDS = 1800.0
_LEFT_OUT = ("PYTEST_", "COV_", "ORCH_", "PYTHON", "VIRTUAL_ENV")
"""Of the caller's environment: what would change what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A program's end."""

    code: int
    wall_seconds: float
    cpu_seconds: float
    load: float
    stdout: bytes
    stderr: bytes

    def timing(self, contender: str, **notes: Any) -> Timing:
        """As a contender's turn; the round is filled in by who counts them."""
        return Timing(
            contender=contender,
            round=0,
            wall_seconds=self.wall_seconds,
            cpu_seconds=self.cpu_seconds,
            load=self.load,
            notes=notes,
        )


def run(
    words: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    keep_output: bool = True,
    good: Sequence[int] = (0,),
) -> Ended:
    """Run to the end. `keep_output` False: standard output goes to /dev/null. RowError: another exit code."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=clean_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=out if keep_output else subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )
        status, used = _wait(process)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        ended = Ended(
            code=process.returncode,
            wall_seconds=wall,
            cpu_seconds=used.ru_utime + used.ru_stime,
            load=load,
            stdout=out.read(),
            stderr=err.read(),
        )
    if ended.code not in good:
        said = (ended.stderr[-1000:] or ended.stdout[-1000:]).decode(errors="replace").strip()
        raise RowError(f"{' '.join(words[:6])} ...: exit code {ended.code}: {said}")
    return ended


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage]:
    """Status and what it used. Whatever ends this wait early ends the process and its children too."""
    guard = threading.Timer(LONGEST_SECONDS, _end, [process.pid, signal.SIGTERM])
    guard.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        _end(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        guard.cancel()
    return status, used


def _end(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def clean_environment() -> dict[str, str]:
    """The caller's environment without what belongs to the benchmark's own Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}

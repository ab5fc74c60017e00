"""Run a program and measure its wall time and CPU time."""

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
    from typing import IO, Any

LONGEST_SECONDS = 1800.0
_LEFT_OUT = ("PYTEST_", "COV_", "ORCH_", "PYTHON", "VIRTUAL_ENV")
"""Prefixes of environment variables that would change the measurement and are not passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The times and the output of a program that has ended."""

    wall_seconds: float
    cpu_seconds: float
    load: float
    stdout: bytes
    stderr: bytes

    def timing(self, contender: str, **notes: Any) -> Timing:
        """Return the timing of a contender; its round is set later."""
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
) -> Ended:
    """Run a program to its end. Without `keep_output`, stdout goes to /dev/null. Raises RowError for an exit code
    other than 0.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        load, began = os.getloadavg()[0], time.monotonic()
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
        stdout, stderr = (_whole(file) for file in (out, err))
    if process.returncode != 0:
        said = (stderr[-1000:] or stdout[-1000:]).decode(errors="replace").strip()
        raise RowError(f"{' '.join(words[:6])} ...: exit code {process.returncode}: {said}")
    cpu = used.ru_utime + used.ru_stime
    return Ended(wall_seconds=wall, cpu_seconds=cpu, load=load, stdout=stdout, stderr=stderr)


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage]:
    """Return the exit status and resource usage. An exception while waiting ends the process and its
    children too.
    """
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
    """Return this process's environment without the variables of the benchmark's own Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}

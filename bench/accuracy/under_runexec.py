"""Run the programs under BenchExec's runexec, one process for each measurement, if it works on this machine."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from bench.accuracy.programs import Measurement, own_cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.accuracy.programs import Program

TOOL = "runexec"
_LINE = re.compile(r"^([a-z0-9-]+)=(.*)$", re.MULTILINE)
_OUTCOMES = {"walltime": "timeout", "memory": "oom"}
_FIGURES = {"cpu_seconds": "cputime", "memory_bytes": "memory", "wall_seconds": "walltime"}
_TAIL_BYTES = 4096
_TMPFS = "/dev/shm"
"""The temporary folder; without a container there is no /tmp of its own."""


class Runexec:
    """The command `runexec`; `folder` receives its output files."""

    def __init__(self, command: str, binary: Path, folder: Path) -> None:
        self._command = command
        self._binary = binary
        self._output = folder / "runexec.output"

    def why_not(self) -> str | None:
        """Return runexec's message if it cannot measure on this machine; None if it can."""
        try:
            done = self._run(["--no-container"], ["/bin/true"])
        except OSError as error:
            return str(error)
        figures = dict(_LINE.findall(done.stdout))
        if "cputime" in figures and "memory" in figures:
            return None
        return (done.stderr or done.stdout).strip()

    def why_no_container(self) -> str | None:
        """Return runexec's message if its container mode does not work on this machine; None if it does."""
        done = self._run([], ["/bin/true"])
        critical = [line for line in done.stderr.splitlines() if "CRITICAL" in line]
        return None if "cputime=" in done.stdout else (critical or [done.stderr.strip()])[0]

    def version(self) -> str:
        """Return the version that runexec reports."""
        return subprocess.run(
            [self._command, "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()

    def measure_all(self, programs: Sequence[Program], number: int) -> list[Measurement]:
        """Run each program once, in this order."""
        return [self.measure(program, number) for program in programs]

    def measure(self, program: Program, number: int) -> Measurement:
        """Run one program once."""
        limits = [
            "--no-container",
            "--memlimit",
            str(program.memory_limit_bytes),
            "--walltimelimit",
            f"{program.timeout_seconds:g}",
        ]
        done = self._run(limits, [str(self._binary), program.name, _TMPFS])
        said = dict(_LINE.findall(done.stdout))
        figures = {name: _number(said.get(key)) for name, key in _FIGURES.items()}
        outcome = _OUTCOMES.get(said.get("terminationreason", ""), "passed")
        if outcome == "passed" and said.get("returnvalue") != "0":
            outcome = f"failed: {done.stdout.strip()}"
        return Measurement(
            tool=TOOL,
            program=program.name,
            round=number,
            outcome=outcome,
            figures=figures,
            sources=dict.fromkeys(_FIGURES, "kernel"),
            own_cpu_seconds=own_cpu_seconds(self._tail()),
        )

    def _run(self, options: list[str], command: list[str]) -> subprocess.CompletedProcess[str]:
        self._output.unlink(missing_ok=True)
        words = [self._command, *options, "--output", str(self._output), "--", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def _tail(self) -> bytes:
        """Return the end of the program's output; its streams are one file."""
        with self._output.open("rb") as file:
            file.seek(max(0, self._output.stat().st_size - _TAIL_BYTES))
            return file.read()


def _number(text: str | None) -> float | None:
    """Parse a number with a unit, such as `0.0019s` or `262144B`."""
    return None if text is None else float(text.rstrip("sB"))

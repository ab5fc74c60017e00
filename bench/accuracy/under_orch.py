"""Run the programs as tests of a project by `orch run`, and read the figures from its JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.accuracy.programs import (
    GREEDY_LIMIT_BYTES,
    HANG_TIMEOUT_SECONDS,
    MEMORY_LIMIT_BYTES,
    Measurement,
    own_cpu_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.accuracy.programs import Program

TOOL = "orch"
_SUFFIX = ".known"
_FIGURES = {
    "cpu_seconds": "cpu_seconds",
    "memory_bytes": "memory_peak_bytes",
    "shmem_bytes": "shmem_peak_bytes",
    "pids": "pids_peak",
    "open_files": "open_files_peak",
    "oom_kills": "oom_kills",
}
_NOTES = ("memory_floor_bytes", "upper_bounds", "overheads", "before_test", "disagreements")
_PROFILES = f"""version: 1
profiles:
  known: {{inherits: fast, reuse: 1, cpus: 2.0, memory: {MEMORY_LIMIT_BYTES}b, timeout: 30s,
          pids: 128, tmpfs: 100m}}
  hang: {{inherits: known, timeout: {HANG_TIMEOUT_SECONDS}s, grace: 1s}}
  greedy: {{inherits: known, memory: {GREEDY_LIMIT_BYTES}b, tmpfs: 32m}}
default_profile: known
rules:
  - {{match: "programs/hang-*", profile: hang}}
  - {{match: "programs/greedy-*", profile: greedy}}
suites:
  - {{name: known, match: ["programs/*{_SUFFIX}"], runner: command, command: ["./known", "{{name}}", "/tmp"]}}
"""


class OrchProject:
    """A project whose tests are the programs."""

    def __init__(self, folder: Path, binary: Path, programs: Sequence[Program]) -> None:
        self._folder = folder
        (folder / "programs").mkdir(parents=True)
        (folder / "profiles.yaml").write_text(_PROFILES)
        shutil.copy(binary, folder / "known")
        for program in programs:
            (folder / "programs" / f"{program.name}{_SUFFIX}").touch()
        self.environment: dict[str, Any] = {}

    def measure(self, number: int) -> list[Measurement]:
        """Run all programs once, one after another. Raises RuntimeError if orch gives no report."""
        words = [sys.executable, "-m", "orchestrator", "run", "--format", "json", "--jobs", "1"]
        repository = Path(__file__).parents[2]
        done = subprocess.run(
            words,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            check=False,
        )
        try:
            document = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"orch run, exit code {done.returncode}: {done.stderr.decode()}") from None
        run = document["run"]
        self.environment = {key: run[key] for key in ("engine", "orch_version")}
        return [_measurement(test, number) for test in document["tests"]]


def _measurement(test: dict[str, Any], number: int) -> Measurement:
    """Return the measurement of the first attempt; later ones have other profiles."""
    first = test["attempts"][0]
    usage = first["usage"]
    figures: dict[str, float | None] = {name: usage.get(field) for name, field in _FIGURES.items()}
    sources = {name: usage["sources"].get(field, "") for name, field in _FIGURES.items()}
    if figures["open_files"] is None:
        figures["open_files"] = _most_open_files(Path(first["folder"]))
        sources["open_files"] = "samples"
    figures["wall_seconds"], sources["wall_seconds"] = first["duration_seconds"], "clock"
    figures["output_bytes"], sources["output_bytes"] = first["stdout"]["total_bytes"], "stream"
    return Measurement(
        tool=TOOL,
        program=Path(test["path"]).name.removesuffix(_SUFFIX),
        round=number,
        outcome=first["outcome"],
        figures=figures,
        sources=sources,
        notes={name: usage[name] for name in _NOTES if usage.get(name)},
        own_cpu_seconds=own_cpu_seconds(Path(first["stderr"]["path"]).read_bytes()),
    )


def _most_open_files(folder: Path) -> int | None:
    """Return the highest sample of open files of the whole container, the agent included."""
    samples = json.loads((folder / "metrics.json").read_text())["samples"]
    return max((n for sample in samples if (n := sample["open_files"]) is not None), default=None)

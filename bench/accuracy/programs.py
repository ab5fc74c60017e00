"""The programs of known.c that are measured, with the true values of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20
MEMORY_LIMIT_BYTES = 512 * MIB
GREEDY_LIMIT_BYTES = 64 * MIB
HANG_TIMEOUT_SECONDS = 1.0
NULL = "null"
"""The program that does nothing; its figures are the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured figure: its unit, and the largest acceptable error (None: there is no target)."""

    unit: str
    target_ratio: float | None = None
    target_absolute: float | None = None
    above_floor: bool = False
    """Whether the target applies to the figure minus that of a program that does nothing."""
    always: bool = False
    """Whether every program must have this figure, however it ends."""


FIGURES: Mapping[str, Figure] = {
    "cpu_seconds": Figure(unit="s", target_ratio=0.02, target_absolute=0.005, always=True),
    "memory_bytes": Figure(
        unit="MiB", target_ratio=0.01, target_absolute=float(MIB), above_floor=True, always=True
    ),
    "shmem_bytes": Figure(unit="MiB"),
    "pids": Figure(unit="", always=True),
    "open_files": Figure(unit=""),
    "output_bytes": Figure(unit="MiB", target_ratio=0.0, target_absolute=0.0),
    "wall_seconds": Figure(unit="s"),
    "oom_kills": Figure(unit="", target_ratio=0.0, target_absolute=0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program with its true values: figure -> value. CPU time is not among them, because the program reports its
    own.
    """

    name: str
    truth: Mapping[str, float] = field(default_factory=dict)
    outcome: str = "passed"
    profile: str = "known"

    @property
    def memory_limit_bytes(self) -> int:
        """The memory limit of the program under both tools."""
        return GREEDY_LIMIT_BYTES if self.profile == "greedy" else MEMORY_LIMIT_BYTES

    @property
    def timeout_seconds(self) -> float:
        """The timeout of the program under both tools."""
        return HANG_TIMEOUT_SECONDS if self.profile == "hang" else 30.0


def _alloc(mib: int, kind: str = "alloc") -> Program:
    return Program(name=f"{kind}-{mib}", truth={"memory_bytes": mib * MIB})


PROGRAMS = (
    Program(name=NULL, truth={"pids": 1, "oom_kills": 0, "output_bytes": 0}),
    _alloc(10),
    _alloc(100),
    _alloc(400),
    _alloc(100, "child"),
    Program(name="burn-50-1"),
    Program(name="burn-500-1"),
    Program(name="burn-2000-1"),
    Program(name="burn-50-2"),
    Program(name="burn-500-2"),
    Program(name="burn-2000-2"),
    Program(name="threads-50", truth={"pids": 51}),
    Program(name="files-200", truth={"open_files": 203}),
    Program(name="tmpfs-64", truth={"memory_bytes": 64 * MIB, "shmem_bytes": 64 * MIB}),
    Program(name="output-64", truth={"output_bytes": 64 * MIB}),
    Program(name="live-5", truth={"wall_seconds": 0.005}),
    Program(name="live-50", truth={"wall_seconds": 0.05}),
    Program(name="live-500", truth={"wall_seconds": 0.5}),
    Program(
        name="hang-50-10",
        truth={"memory_bytes": 10 * MIB, "wall_seconds": HANG_TIMEOUT_SECONDS},
        outcome="timeout",
        profile="hang",
    ),
    Program(
        name="greedy-200",
        truth={"memory_bytes": GREEDY_LIMIT_BYTES, "oom_kills": 1},
        outcome="oom",
        profile="greedy",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run of one program under one tool. A figure that the tool did not give is None."""

    tool: str
    program: str
    round: int
    outcome: str
    figures: Mapping[str, float | None]
    sources: Mapping[str, str] = field(default_factory=dict)
    own_cpu_seconds: float | None = None
    """The CPU time that the program reported; None if it was killed before."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """Other output of the tool about its figures."""


def own_cpu_seconds(output: bytes) -> float | None:
    """Return the CPU seconds from the program's last line; None if it wrote none."""
    _, found, rest = output.rpartition(b"known cpu_seconds=")
    return float(rest.split()[0]) if found else None

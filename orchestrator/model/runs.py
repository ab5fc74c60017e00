"""Runs: one call of `orch run`, the engine and the machine it used, and the containers it left."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """The container engine, as it describes itself."""

    name: str
    """docker or podman."""
    version: str
    api_version: str
    address: str
    local: bool
    """True if the engine shares this machine's files and kernel."""
    cgroup_version: int | None
    cgroup_driver: str | None
    rootless: bool
    cpus: int
    memory_bytes: int
    kernel: str
    operating_system: str
    architecture: str
    storage_driver: str = ""
    memory_limit: bool = True
    cpu_limit: bool = True
    pids_limit: bool = True
    swap_limit: bool = True
    """False: the engine ignores limits of swap, and says so in `warnings`."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The machine that orch runs on."""

    id: str
    """Digest of the machine id: distinguishes machines without naming them."""
    cpus: float
    """CPUs that this process may use (affinity and cgroup quota), not the number installed."""
    memory_bytes: int
    """Memory that this process may use."""
    kernel: str
    python: str
    load: float | None = None
    """The machine's load average of one minute when the run began."""
    nofile: int = 1 << 20
    """Largest limit of open files that a process here can have; a container on this machine cannot have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of `orch run`."""

    id: str
    """UUID; users read and type its first 8 digits."""
    started_at: datetime
    argv: tuple[str, ...]
    project: str
    """Name of the project's folder."""
    project_id: str
    """The project's id in the database."""
    config_digest: str
    orch_version: str
    engine: EngineInfo
    host: HostInfo
    images: Mapping[str, str] = field(default_factory=dict)
    """Image name -> pinned id."""
    revision: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    fresh: bool = False
    """True if every test had a container of its own, whatever its profile says (`--fresh`)."""

    @property
    def short_id(self) -> str:
        """The first 8 digits of the id."""
        return self.id[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Numbers of containers that a run was expected to create, created and removed, and the objects it left."""

    expected_containers: int = 0
    created_containers: int = 0
    removed_containers: int = 0
    left: tuple[str, ...] = ()
    """Kind and name of each engine object that still exists."""
    unexpected: tuple[str, ...] = ()
    """Engine objects that tests created, each with the test it belongs to."""


class RunStatus(StrEnum):
    """State of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

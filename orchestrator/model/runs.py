"""TO BE WRITTEN."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# ---------------------------------------------------------------- the run


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """The engine as it described itself."""

    name: str
    """docker or podman."""
    version: str
    api_version: str
    address: str
    local: bool
    """The engine shares this machine's files and kernel."""
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
    """False: the engine drops a limit of memory and swap together, and says so in `warnings`."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The machine orch runs on."""

    id: str
    """A digest of the machine id: tells machines apart without naming them."""
    cpus: float
    """CPUs this process is granted (affinity and cgroup quota), not those built in."""
    memory_bytes: int
    """Memory this process is granted."""
    kernel: str
    python: str
    load: float | None = None
    """Processes that ran or waited for a CPU when the run began: mean of a minute, all users' and containers'."""
    nofile: int = 1 << 20
    """Open files that a process can be allowed at most; an engine on this machine can grant no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of `orch run`."""

    id: str
    """UUID; its first 8 digits are what users read and type."""
    started_at: datetime
    argv: tuple[str, ...]
    project: str
    """Name of its folder."""
    project_id: str
    """What the database tells the project by."""
    config_digest: str
    orch_version: str
    engine: EngineInfo
    host: HostInfo
    images: Mapping[str, str] = field(default_factory=dict)
    """Image name -> pinned ID."""
    revision: str | None = None
    branch: str | None = None
    dirty: bool | None = None

    @property
    def short_id(self) -> str:
        """The first 8 digits."""
        return self.id[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the run was expected to create, what it created, and what is left of it."""

    expected_containers: int = 0
    created_containers: int = 0
    removed_containers: int = 0
    left: tuple[str, ...] = ()
    """Kind and name of each object that is still there."""
    unexpected: tuple[str, ...] = ()
    """Objects that appeared without being asked for, with the test they belong to."""


class RunStatus(StrEnum):
    """How far a run came."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

"""TO BE WRITTEN."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# ---------------------------------------------------------------- what the user configures


class Network(StrEnum):
    """The network a container gets."""

    NONE = "none"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container may use. In an Attempt these are the effective ones."""

    cpus: float
    memory_bytes: int
    timeout_seconds: float
    tmpfs_bytes: int
    tmpfs_inodes: int
    outputs_bytes: int
    """Size of the writable `$ORCH_OUTPUT_DIR` (a tmpfs; what is in it comes back)."""
    shm_bytes: int
    pids: int
    nofile: int
    log_bytes: int
    """Kept bytes of each output stream; what comes after is read, counted and dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a figure becomes a violation. Ratios are of the limit, 0 to 1; None switches a check off."""

    memory_near_ratio: float | None = 0.9
    time_near_ratio: float | None = 0.9
    pids_near_ratio: float | None = 0.9
    cpu_seconds: float | None = None
    """Budget of CPU seconds for one test."""
    throttled_ratio: float | None = 0.25
    """Throttled seconds over the test's duration."""
    log_bytes: int | None = None
    """Output above this is a flood; None: only a truncated log is."""
    memory_growth_ratio: float | None = 0.25
    """Anonymous memory that keeps growing by more than this share of the limit; see `verdict.trend`."""
    oversized_ratio: float | None = 0.5
    """A chosen profile is too large for a test that needs at most this share of the next smaller one."""
    tmpfs_near_ratio: float | None = 0.9
    """Used share of the bytes or the inodes of /tmp, /dev/shm or the outputs."""
    open_files_growth: int | None = 20
    """Open files by which one process must keep growing."""
    threads_growth: int | None = 8
    """Threads by which one process must keep growing."""
    files_left: int | None = 16
    """Entries left in /tmp."""
    files_left_bytes: int | None = 16 << 20
    """Bytes left in /tmp."""
    disk_write_bytes: int | None = 16 << 20
    """Written to block devices; a test has no writable place on one, save a volume of its image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named bundle of limits and the environment they hold in."""

    name: str
    description: str = ""
    limits: Limits
    network: Network
    image: str
    """Name of an `ImageSpec`."""
    capabilities: tuple[str, ...] = ()
    """Capabilities given back after all were dropped, without the CAP_ prefix."""
    grace_seconds: float = 2.0
    """Between TERM and KILL."""
    reuse: int = 1
    """How many tests one slot may take; 1: a fresh container for each."""
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Where an image comes from: built from a Dockerfile, or a reference that the engine has or can pull."""

    name: str
    dockerfile: Path | None = None
    context: Path | None = None
    reference: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    """BASE_IMAGE when it is another image of this configuration (its name); that one is built first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Maps tests to a profile; all conditions given must hold; the first rule that matches wins."""

    profile: str | None = None
    match: str | None = None
    marker: str | None = None
    suite: str | None = None
    retries: int | None = None
    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    exclusive: bool = False
    """Nothing else runs beside the test."""
    group: str | None = None
    """Tests of a group run one at a time."""
    place: str = ""
    """file:line of the rule, for reasons and errors."""

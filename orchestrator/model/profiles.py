"""Profiles: limits, thresholds and images of containers, and the rules that assign tests to profiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Network(StrEnum):
    """Network of a container."""

    NONE = "none"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a container. Those of an `Attempt` are the effective ones."""

    cpus: float
    memory_bytes: int
    timeout_seconds: float
    tmpfs_bytes: int
    tmpfs_inodes: int
    outputs_bytes: int
    """Size of `$ORCH_OUTPUT_DIR`, a tmpfs whose files are copied to the attempt's folder."""
    shm_bytes: int
    pids: int
    nofile: int
    log_bytes: int
    """Bytes of each output stream that are kept; further output is counted and dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds above which a figure is a violation. Ratios are shares of the limit, 0 to 1; None: no check."""

    memory_near_ratio: float | None = 0.9
    time_near_ratio: float | None = 0.9
    pids_near_ratio: float | None = 0.9
    cpu_seconds: float | None = None
    """CPU seconds that one test may use."""
    throttled_ratio: float | None = 0.25
    """Throttled seconds divided by the test's duration."""
    log_bytes: int | None = None
    """Bytes of output above which a stream is a flood; None: only a truncated log is."""
    memory_growth_ratio: float | None = 0.25
    """Steady growth of anonymous memory, as a share of the limit; see `verdict.trend`."""
    oversized_ratio: float | None = 0.5
    """A profile is oversized for a test that needs at most this share of the next smaller profile's limits."""
    tmpfs_near_ratio: float | None = 0.9
    """Used share of the bytes or inodes of /tmp, /dev/shm or `$ORCH_OUTPUT_DIR`."""
    open_files_growth: int | None = 20
    """Number of open files by which one process steadily grows."""
    threads_growth: int | None = 8
    """Number of threads by which one process steadily grows."""
    files_left: int | None = 16
    """Number of entries left in /tmp."""
    files_left_bytes: int | None = 16 << 20
    """Bytes left in /tmp."""
    disk_write_bytes: int | None = 16 << 20
    """Bytes written to block devices. Only a volume of the image gives a test a writable place on one."""


AUTO_REUSE = 1000
"""The largest number of tests that use one slot where a profile has `reuse: auto`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Named set of limits, network, image and other settings of a container."""

    name: str
    description: str = ""
    limits: Limits
    network: Network
    image: str
    """Name of an `ImageSpec`."""
    capabilities: tuple[str, ...] = ()
    """Capabilities that are added after all were dropped, without the CAP_ prefix."""
    grace_seconds: float = 2.0
    """Seconds between SIGTERM and SIGKILL."""
    reuse: int = 1
    """Number of tests that may use one slot; 1: a fresh container for each test."""
    auto_reuse: bool = False
    """True for `reuse: auto`: a test that could disturb others, or be disturbed, gets a fresh container."""
    thresholds: Thresholds = field(default_factory=Thresholds)

    def fresh(self) -> Profile:
        """Return the profile with a fresh container for each test."""
        return self if self.reuse == 1 else replace(self, reuse=1)

    def same_environment(self, other: Profile) -> bool:
        """Return True if image, network and capabilities are equal, so that a test finds the same in both."""
        own = self.image, self.network, set(self.capabilities)
        return own == (other.image, other.network, set(other.capabilities))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Source of an image: a Dockerfile, or a reference that the engine has or can pull."""

    name: str
    dockerfile: Path | None = None
    context: Path | None = None
    reference: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    """Name of the image of this configuration that is the build argument BASE_IMAGE; it is built first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rule that assigns tests to a profile. All its conditions must hold; the first rule that matches wins."""

    profile: str | None = None
    match: str | None = None
    marker: str | None = None
    suite: str | None = None
    retries: int | None = None
    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    exclusive: bool = False
    """True: no other test runs at the same time."""
    group: str | None = None
    """Name of a group whose tests run one at a time."""
    place: str = ""
    """file:line of the rule, for reasons and error messages."""

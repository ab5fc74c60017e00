"""Resource usage of an attempt: its total figures and its time series.

Units are in the names; a figure that was not measured is `None`, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


THROTTLED_TIMEOUT_RATIO = 0.25
"""Throttled seconds divided by duration from which on a timeout is attributed to the CPU limit
(docs/design/scheduling/attempts.md).
"""


class Source(StrEnum):
    """Source of a figure, best source first."""

    KERNEL = "kernel"
    """Counters of cgroups that orch reads on the host."""
    AGENT = "agent"
    """Counters that the agent reads inside the container."""
    STATS = "stats"
    """The engine's statistics call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One point of a test's time series. Counters are totals since the test's start."""

    at_seconds: float
    """Seconds since the test was started."""
    memory_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    cpu_seconds: float | None = None
    pids: int | None = None
    """Number of tasks (processes and threads), as counted by the kernel's pids controller."""
    processes: int | None = None
    threads: int | None = None
    """Number of threads of all processes."""
    open_files: int | None = None
    """Number of open descriptors of all processes."""
    process_threads_max: int | None = None
    """Number of threads of the process that has the most."""
    process_open_files_max: int | None = None
    """Number of open descriptors of the process that has the most."""
    read_bytes: int | None = None
    write_bytes: int | None = None
    throttled_seconds: float | None = None
    memory_pressure_ratio: float | None = None
    """Share of the last 10 s in which at least one task waited for memory (PSI), 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Usage of one attempt from the test's start to its end. None: not measured; `missing` has the reason."""

    cpu_seconds: float | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    memory_peak_bytes: int | None = None
    """Peak of the test's own memory above the floor: anonymous, shared and kernel memory, no page cache."""
    memory_floor_bytes: int | None = None
    """Memory that was charged before the test began: agent, preloaded runner, page cache of earlier tests."""
    memory_charged_peak_bytes: int | None = None
    """Peak of all memory that was charged to the container: floor, own memory and page cache."""
    page_cache_bytes: int | None = None
    """Page cache that was charged while the test ran. The kernel can reclaim it, so the test does not need it."""
    anon_peak_bytes: int | None = None
    file_peak_bytes: int | None = None
    shmem_peak_bytes: int | None = None
    swap_peak_bytes: int | None = None
    pids_peak: int | None = None
    oom_kills: int | None = None
    pids_limit_hits: int | None = None
    """Number of forks that the pids limit refused."""
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Figure's field name -> source, for each figure that is not None."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Figure's field name -> reason, for each figure that is None."""
    memory_peak_is_upper_bound: bool = False
    """True if the kernel's peak was as high before the test (start of the container, an earlier test) and could
    not be reset: the test's own peak is at most the figure.
    """
    memory_peak_is_lower_bound: bool = False
    """True if an unknown part of the kernel's peak was page cache: the test's own peak is at least the figure."""
    upper_bounds: tuple[str, ...] = ()
    """Field names of the peaks that are upper bounds, for the same reason."""
    disagreements: Mapping[str, str] = field(default_factory=dict)
    """Figure's field name -> sentence, where two sources differ by more than the tolerance."""
    overheads: Mapping[str, float] = field(default_factory=dict)
    """Figure's field name -> calibrated cost of a test that does nothing, which was subtracted from the figure."""
    before_test: Mapping[str, float] = field(default_factory=dict)
    """Figure's field name -> what the container had used before the test's start; not part of the figure."""


USAGE_NOTES = frozenset(
    {
        "sources",
        "missing",
        "memory_peak_is_upper_bound",
        "memory_peak_is_lower_bound",
        "upper_bounds",
        "disagreements",
        "overheads",
        "before_test",
    }
)
"""Names of the fields of `Usage` that describe its figures and are not figures themselves."""
